"""The pure parts of the cluster tooling, and its command line where it needs no cluster."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.cluster import archive, audit, components, golang, images, leftovers, sandbox, wheels
from e2e.cluster.pki import Authority, write_kubeconfig
from e2e.cluster.settings import CLUSTERS, Settings

TESTS = Path(__file__).parents[2]


def _run(*arguments: str, cache: Path) -> "subprocess.CompletedProcess[str]":
    environment = dict(os.environ) | {"PYTHONPATH": str(TESTS), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# --- settings and configuration -----------------------------------------------------------------------------------------
def test_clusters_never_share_a_network() -> None:
    every = [Settings("x", index) for index in range(CLUSTERS)]
    for one in every:
        others = [n for other in every if other is not one for n in (other.link, other.pods, other.services)]
        assert not one.overlaps(others)
        assert one.overlaps([one.pods])
        assert len(one.host_device) <= 15
        assert one.kubernetes_service in map(str, one.services)


def test_a_new_cluster_takes_networks_that_no_other_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = [sandbox.choose_settings(f"c{number}") for number in range(3)]
    assert len({settings.index for settings in chosen}) == 3
    assert sandbox.choose_settings("c1") == chosen[1]  # its own choice is no obstacle
    assert not any(settings.overlaps(sandbox.used_networks()) for settings in chosen)


def test_settings_survive_a_save_and_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = Settings("kept", 3)
    settings.save()
    assert Settings.load("kept") == settings
    (settings.state / "settings.json").write_text('{"name": "ke')
    assert Settings.load("kept") is None
    assert Settings.load("never") is None


def test_every_program_of_the_node_has_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = Settings("files", 1)
    settings.save()
    components.write_files(settings, Authority(settings.state / "pki"), "overlayfs")
    programs = components.programs(settings, tmp_path / "programs")
    assert [one["name"] for one in programs][:3] == ["containerd", "etcd", "kube-apiserver"]
    mentioned = 0
    for program in programs:
        for word in [*program["command"], *program.get("environment", {}).values()]:
            path = word.partition("=")[2] or word
            if path.startswith(str(settings.state)) and not path.endswith("audit.jsonl"):
                assert Path(path).is_file(), f"{program['name']} is given {path}"
                mentioned += 1
    assert mentioned > 15
    kubelet = json.loads((settings.state / "kubelet.json").read_text())
    assert kubelet["clusterDNS"] == [settings.dns_service]
    assert (settings.state / "pki/ca.key").stat().st_mode & 0o077 == 0
    assert (settings.state / "kubeconfig").stat().st_mode & 0o077 == 0


# --- certificates -------------------------------------------------------------------------------------------------------
def test_certificates_carry_user_groups_and_hosts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("one", "someone", ["a", "b"], ["127.0.0.1", "host.example"])
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=someone,O=b,O=a"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["host.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    issuer = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    certificate.verify_directly_issued_by(issuer)
    assert certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    again = Authority(tmp_path)  # read back, not made anew
    assert again.certificate_file.read_bytes() == issuer.public_bytes(Encoding.PEM)
    config = yaml.safe_load(
        write_kubeconfig(tmp_path / "k", "https://x:1", authority.certificate_file, pair).read_text()
    )
    assert config["clusters"][0]["cluster"]["server"] == "https://x:1"
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


# --- audit log ----------------------------------------------------------------------------------------------------------
def _event(**changes: object) -> str:
    event = {
        "verb": "create",
        "user": {"username": "u"},
        "objectRef": {"resource": "namespaces", "name": "n"},
        "responseStatus": {"code": 201},
    }
    return json.dumps(event | changes)


def test_audit_knows_writes_from_questions() -> None:
    write = audit.parse(_event())
    assert write is not None
    assert str(write) == "create namespaces n -> 201 by u"
    assert audit.parse(_event(verb="list")) is None
    assert audit.parse(_event(objectRef={"resource": "subjectaccessreviews"})) is None
    assert audit.parse(_event(objectRef={"resource": "serviceaccounts", "subresource": "token"})) is None
    as_other = audit.parse(_event(impersonatedUser={"username": "other"}))
    assert as_other is not None
    assert as_other.user == "other"
    system = audit.parse(_event(user={"username": "system:serviceaccount:kube-system:namespace-controller"}))
    assert system is not None
    assert system.by_system
    own = audit.parse(_event(user={"username": "system:serviceaccount:unjucks-system:operator"}))
    assert own is not None
    assert not own.by_system


def test_audit_does_not_read_half_a_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text("one\ntwo\nthr")
    assert [line for line, _ in audit.lines(log)] == ["one\n", "two\n"]
    (_, offset) = list(audit.lines(log))[-1]
    log.write_text("one\ntwo\nthree\n")
    assert [line for line, _ in audit.lines(log, offset)] == ["three\n"]


# --- images -------------------------------------------------------------------------------------------------------------
def test_archive_is_the_same_for_the_same_program(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!x" * 1000)
    for name in ("a", "b"):
        archive.write_program_image(tmp_path / f"{name}.tar", "x.local/p:1", program, architecture="amd64")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as image:

        def read(name: str) -> bytes:
            member = image.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        assert manifest["RepoTags"] == ["x.local/p:1"]
        config = json.loads(read(manifest["Config"]))
        layer = read(manifest["Layers"][0])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "b.tar", "program"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product's sources."""
    return wheels.snapshot(tmp_path_factory.mktemp("sources") / "s")


def _keys(source: Path) -> dict[str, str]:
    return {
        name: images._image(source, name, docker=False).reference
        for name in ("operator", "renderer", "webhooks", "postgres")
    }


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("operator/unjucks_operator/errors.py", {"operator"}),
        ("operator/unjucks_api/names.py", {"operator", "renderer", "webhooks"}),
        ("runtime/unjucks_engine/__init__.py", {"renderer", "webhooks"}),
        ("webhooks/unjucks_webhooks/__init__.py", {"webhooks"}),
        ("requirements/renderer.txt", {"renderer"}),
        ("requirements/dev.txt", set()),
        ("docker/postgres-entrypoint.sh", {"postgres"}),
        ("docker/install.py", {"operator", "renderer", "webhooks"}),
        ("Dockerfile", {"operator", "renderer", "webhooks", "postgres"}),
    ],
)
def test_an_image_is_renamed_by_what_is_in_it(sources: Path, file: str, changed: set[str]) -> None:
    before, target = _keys(sources), sources / file
    content = target.read_bytes()
    try:
        target.write_bytes(content + b"\n# changed\n")
        after = _keys(sources)
    finally:
        target.write_bytes(content)
    assert {name for name in before if before[name] != after[name]} == changed
    assert _keys(sources) == before


# --- command line and prerequisites -------------------------------------------------------------------------------------
def test_unknown_command_is_wrong_usage(tmp_path: Path) -> None:
    result = _run("-m", "e2e.cluster", "explode", cache=tmp_path)
    assert result.returncode == 2
    assert "invalid choice: 'explode'" in result.stderr


def test_status_without_a_cluster(tmp_path: Path) -> None:
    arguments = ["-m", "e2e.cluster", "--provider=processes", "--name=nobody"]
    result = _run(*arguments, "status", "--output=json", cache=tmp_path)
    assert result.returncode == 6
    answer = json.loads(result.stdout)
    assert (answer["running"], answer["ready"]) == (False, False)
    assert "`make cluster-up` starts it" in answer["reason"]
    kubeconfig = _run(*arguments, "kubeconfig", cache=tmp_path)
    assert kubeconfig.returncode == 1
    assert kubeconfig.stderr.startswith("error: cluster 'nobody' is not running")
    down = _run(*arguments, "down", "--output=json", cache=tmp_path)
    assert (down.returncode, json.loads(down.stdout)) == (0, {"name": "nobody", "removed": False})


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user takes root")
def test_missing_packages_are_named_with_the_line_that_installs_them(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from e2e.cluster import packages\n"
        "from e2e.cluster.errors import MissingPrerequisite\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    packages.ensure([('bash', 'sh'), ('unheard-of', 'unheard-of-program')], 'this test')\n"
        "except MissingPrerequisite as error:\n"
        "    print(error.exit_code, error)\n"
    )
    result = _run("-c", code, cache=tmp_path)
    assert result.stderr == ""
    assert result.stdout.startswith("3 this test needs: unheard-of. This line installs it:")
    assert "sudo apt-get install --yes --no-install-recommends unheard-of\n" in result.stdout


def test_lock_makes_the_second_wait(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from e2e.cluster.golang import locked\n"
        f"with locked(Path({str(tmp_path / 'lock')!r}), 'a test'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = dict(os.environ) | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        second = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        with second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1.5)
            assert holder.stdin is not None
            holder.stdin.close()
            assert second.stdout is not None
            assert second.stdout.readline() == "held\n"
    assert (holder.returncode, second.returncode) == (0, 0)


def test_the_build_is_keyed_by_its_sources() -> None:
    module = golang.components_folder().name
    assert module.startswith("kubernetes-")
    assert len(module.removeprefix("kubernetes-")) == 20
    assert golang.components_folder().name == module


def test_a_picture_differs_by_what_was_added() -> None:
    empty = leftovers.Picture(*(frozenset[str]() for _ in range(10)))
    more = leftovers.Picture(*(frozenset({"x"}) if n == 1 else frozenset[str]() for n in range(10)))
    assert leftovers.difference(empty, empty) == []
    assert leftovers.difference(empty, more) == ["links: + x"]
    assert leftovers.difference(more, empty) == ["links: - x"]
