"""Output as a ConfigMap: keys, limits, determinism."""

import base64

import orjson
import pytest

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Terminal
from unjucks_operator.job.desired.config_map import MAX_BYTES, File, build_manifest, build_output, manifest_digest


def file(path: str, content: bytes = b"x") -> File:
    return File(path, content, 0o644, "00", "created")


def output(files: list[File], **kwargs: object):  # type: ignore[no-untyped-def]
    manifest = build_manifest(files, generator="g", action="a", tree="sha256:1", engine="1")
    facts = {"namespace": "n", "name": "out", "immutable": False, "labels": {}, "run_key": "k"} | kwargs
    return build_output(files=files, manifest=manifest, **facts)  # type: ignore[arg-type]


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
    two = output([file("a"), file("b")], name="other", run_key="z")
    assert one["data"] == two["data"]
    assert manifest_digest(one["data"]["manifest.json"].encode()).startswith("sha256:")


def test_immutable_is_set_only_when_asked_for() -> None:
    assert "immutable" not in output([file("a")])
    assert output([file("a")], immutable=True)["immutable"] is True
