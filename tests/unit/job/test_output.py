"""Output as a ConfigMap or Secret: keys, limits, determinism, and what may not go where others read it."""

import base64
from dataclasses import replace

import orjson
import pytest

from unjucks_api.courier_protocol import MAX_FILES, MAX_OWN_BYTES
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.files import File, Listed, build_manifest, manifest_digest, read_manifest
from unjucks_operator.job.outputs.objects import MAX_BYTES, build_output, path_keys, read_output
from unjucks_operator.job.outputs.target import Target, refuse_misplaced


def file(path: str, content: bytes = b"x") -> File:
    return File(path, content, 0o644, "00", "created")


def output(files: list[File], **kwargs: object):  # type: ignore[no-untyped-def]
    manifest = build_manifest(
        files, generator="g", action="a", tree="sha256:1", engine="1", keys=path_keys([it.path for it in files])
    )
    target = Target(**({"kind": "ConfigMap", "name": "out"} | kwargs))  # type: ignore[arg-type]
    return build_output(target, namespace="n", labels={}, run_key="k", files=files, manifest=manifest)


def test_slashes_become_double_underscores_and_bytes_go_to_binary_data() -> None:
    made = output([file("src/app.py", b"print()"), file("logo.png", b"\xff\xfe")])
    assert made["data"]["src__app.py"] == "print()"
    assert base64.b64decode(made["binaryData"]["logo.png"]) == b"\xff\xfe"


def test_paths_that_cannot_be_keys_are_found_through_the_manifest() -> None:
    paths = ["a b.txt", "a__b", "a/b", "manifest.json", "ünïcode", "x" * 254]
    made = output([file(path, path.encode()) for path in paths])
    listed = {item["path"]: item["key"] for item in orjson.loads(made["data"]["manifest.json"])["files"]}
    assert len(set(listed.values())) == len(paths)
    assert "manifest.json" not in listed.values()
    for path, key in listed.items():
        assert made["data"][key] == path


def test_too_much_output_is_a_typed_failure_with_both_sizes() -> None:
    with pytest.raises(Terminal, match=str(MAX_BYTES)) as caught:
        output([file("big", b"x" * MAX_BYTES)])
    assert caught.value.reason is Reason.OUTPUT_TOO_LARGE


def test_equal_files_have_equal_manifests_in_any_order_of_making() -> None:
    one = output([file("a"), file("b")])
    two = output([file("a"), file("b")], name="other")
    assert one["data"] == two["data"]
    assert manifest_digest(one["data"]["manifest.json"].encode()).startswith("sha256:")


def test_immutable_is_set_only_when_asked_for() -> None:
    assert "immutable" not in output([file("a")])
    assert output([file("a")], immutable=True)["immutable"] is True


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_what_is_written_is_read_back(kind: str) -> None:
    files = [file("a/b.txt", b"text"), file("logo.png", b"\xff\xfe")]
    found = read_output(output(files, kind=kind))
    assert {item.path: item.content for item in found.files} == {item.path: item.content for item in files}
    assert found.engine == "1"


def test_a_secret_is_opaque_and_holds_base64_only() -> None:
    made = output([file("a", b"text")], kind="Secret")
    assert made["type"] == "Opaque"
    assert base64.b64decode(made["data"]["a"]) == b"text"
    assert "binaryData" not in made


def test_files_with_secrets_go_only_where_secrets_may() -> None:
    tainted = [file("clean"), replace(file("app.env"), sensitive=True), replace(file("b"), sensitive=True)]
    with pytest.raises(Terminal, match=r"app\.env and 1 more .* spec\.output\.secret") as caught:
        refuse_misplaced(Target("ConfigMap", "out"), tainted)
    assert caught.value.reason is Reason.SENSITIVE_DATA_BLOCKED
    refuse_misplaced(Target("Secret", "out", takes_secrets=True), tainted)
    refuse_misplaced(Target("ConfigMap", "out"), [file("clean")])


def test_a_manifest_larger_than_any_of_ours_says_nothing() -> None:
    entry = b'{"path": "a%d", "sha256": "0", "mode": "0644"}'
    right = b'{"files": [%s]}' % b",".join(entry % number for number in range(3))
    assert len(read_manifest(right, {}).digests) == 3
    assert read_manifest(right + b" " * MAX_OWN_BYTES, {}) == Listed()
    many = b'{"files": [%s]}' % b",".join(entry % number for number in range(MAX_FILES + 1))
    assert read_manifest(many, {}) == Listed()
