"""OCI artifacts and buckets as outputs, against real servers on loopback; what is written is read back as a source."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from support.artifact_servers import BUCKET, S3, Registry, oci_registry, s3_server
from support.sources import LOOPBACK, fetch, tree_of
from unjucks_api.courier_protocol import (
    BucketTarget,
    InspectRequest,
    InspectResponse,
    OciSource,
    OciTarget,
    PublishRequest,
    PublishResponse,
)
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.outputs.tasks import inspect_with, network_of, publish_with

pytestmark = pytest.mark.integration
JOB, OTHER = "tenant-acme/orders-api", "tenant-acme/another"
KEY, NEXT = "a" * 40, "b" * 40
FILES = {"app.py": b"print()\n", "docs/run.md": b"# Run\n"}
STATEMENT = b'{"subject":[]}'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with oci_registry(tmp_path_factory.mktemp("oci")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Place:
    """A target with its credentials, for one job."""

    def __init__(self, target: Any, secret: dict[str, bytes], job: str = JOB) -> None:
        self.target, self.job = target, job
        self.secret = {key: encoded(value) for key, value in secret.items()}

    def look(self, key: str = KEY, **more: Any) -> InspectResponse:
        request = InspectRequest(
            target=self.target, job=self.job, run_key=key, credentials=self.secret, certificates={}, allow=LOOPBACK,
            **more,
        )  # fmt: skip
        return inspect_with(request, network_of(request))

    def publish(
        self, files: dict[str, bytes], key: str = KEY, version: str | None = None, **more: Any
    ) -> PublishResponse:
        listed = [{"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()]
        request = PublishRequest(
            target=self.target, job=self.job, run_key=key, version=self.look(key).version if version is None else version,
            manifest=encoded(orjson.dumps({"version": 1, "files": listed})), statement=encoded(STATEMENT),
            files=[SourceFile(path=path, content=encoded(data)) for path, data in files.items()],
            credentials=self.secret, certificates={}, allow=LOOPBACK, **more,
        )  # fmt: skip
        return publish_with(request, network_of(request))


def contents(found: InspectResponse) -> dict[str, bytes]:
    return {file.path: base64.b64decode(file.content) for file in found.files}


def artifact(registry: Registry, name: str, tag: str = "v1", *, overwrite: bool = False, job: str = JOB) -> Place:
    return Place(OciTarget(url=f"{registry.url}/{name}", tag=tag, overwrite=overwrite), registry.credentials, job)


def test_an_artifact_is_pushed_once_and_read_back_as_a_source(registry: Registry) -> None:
    place = artifact(registry, "acme/orders")
    assert place.look().version == ""
    done = place.publish(FILES)
    assert done.written
    assert done.facts["revision"] == f"v1@{done.version}"
    seen = place.look()
    assert (seen.run_key, contents(seen)) == (KEY, FILES)
    assert base64.b64decode(seen.statement) == STATEMENT
    assert place.publish(FILES) == PublishResponse(version=done.version, written=False, facts=done.facts)
    fetched = fetch(OciSource(url=f"{registry.url}/acme/orders", tag="v1"), credentials=registry.credentials)
    assert tree_of(fetched) == FILES


def test_equal_files_are_an_equal_layer_in_every_tag(registry: Registry) -> None:
    one = artifact(registry, "acme/equal", "one").publish(FILES)
    two = artifact(registry, "acme/equal", "two").publish(dict(reversed(FILES.items())))
    assert one.version != ""
    assert artifact(registry, "acme/equal", "one").look().files == artifact(registry, "acme/equal", "two").look().files
    assert two.facts["revision"].startswith("two@sha256:")


def test_a_tag_with_other_content_is_moved_only_when_asked(registry: Registry) -> None:
    artifact(registry, "acme/moved").publish(FILES)
    with pytest.raises(CourierError, match="overwrite") as caught:
        artifact(registry, "acme/moved").publish({"app.py": b"2"}, NEXT)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFLICT, False)
    assert artifact(registry, "acme/moved", overwrite=True).publish({"app.py": b"2"}, NEXT).written
    assert contents(artifact(registry, "acme/moved").look()) == {"app.py": b"2"}
    with pytest.raises(CourierError, match="not pushed by job") as caught:
        artifact(registry, "acme/moved", overwrite=True, job=OTHER).publish({"app.py": b"3"}, "c" * 40)
    assert caught.value.reason is Reason.NOT_OWNED


def test_a_tag_that_moved_since_it_was_looked_at_is_a_conflict(registry: Registry) -> None:
    place = artifact(registry, "acme/race", overwrite=True)
    version = place.look().version
    place.publish(FILES)
    with pytest.raises(CourierError) as caught:
        place.publish({"app.py": b"2"}, NEXT, version)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFLICT, True)


def test_bad_credentials_for_a_registry_are_typed(registry: Registry) -> None:
    secret = {"username": b"courier", "password": b"wr0ng", "ca.crt": registry.authority}
    with pytest.raises(CourierError) as caught:
        Place(OciTarget(url=f"{registry.url}/acme/orders", tag="v1"), secret).look()
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
    assert "wr0ng" not in caught.value.message


def bucket(s3: S3, prefix: str, job: str = JOB, **secret: bytes) -> Place:
    target = BucketTarget(endpoint=s3.endpoint, bucket=BUCKET, prefix=prefix)
    return Place(target, {**s3.credentials, **secret}, job)


def objects(s3: S3, prefix: str) -> set[str]:
    client = s3.client()
    found = {str(item.object_name) for item in client.list_objects(BUCKET, prefix=f"{prefix}/", recursive=True)}
    client._http.clear()
    return found


def test_a_bucket_gets_files_then_the_manifest_and_is_read_back(s3: S3) -> None:
    place = bucket(s3, "one")
    done = place.publish(FILES)
    assert done.written
    own = {f"one/.unjucks/orders-api/{name}" for name in ("manifest.json", "provenance.json")}
    assert objects(s3, "one") == {"one/app.py", "one/docs/run.md"} | own
    seen = place.look()
    assert contents(seen) == FILES
    assert seen.run_key == KEY
    assert seen.version != ""


def test_other_objects_stay_and_named_ones_go(s3: S3) -> None:
    s3.put({"two/notes.txt": b"mine"})
    place = bucket(s3, "two")
    place.publish(FILES)
    place.publish({"app.py": b"2"}, NEXT, removed=["docs/run.md"])
    assert {"two/notes.txt", "two/app.py"} == {name for name in objects(s3, "two") if ".unjucks" not in name}
    seen = place.look(NEXT, others=True)
    assert [file.path for file in seen.others] == ["notes.txt"]


def test_objects_that_the_caller_did_not_see_are_not_overwritten(s3: S3) -> None:
    s3.put({"three/app.py": b"mine"})
    with pytest.raises(CourierError, match="not read") as caught:
        bucket(s3, "three").publish(FILES, seen=[])
    assert caught.value.reason is Reason.CONFLICT


def test_a_manifest_that_changed_since_is_a_conflict(s3: S3) -> None:
    place = bucket(s3, "four")
    version = place.look().version
    place.publish(FILES)
    with pytest.raises(CourierError) as caught:
        place.publish({"app.py": b"2"}, NEXT, version)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFLICT, True)


def test_a_run_that_was_stopped_in_the_middle_is_written_again(s3: S3) -> None:
    s3.put({"five/app.py": FILES["app.py"]})
    place = bucket(s3, "five")
    assert place.publish(FILES).written
    assert contents(place.look()) == FILES


def test_bad_credentials_for_a_bucket_are_typed(s3: S3) -> None:
    with pytest.raises(CourierError) as caught:
        bucket(s3, "six", secretkey=b"wr0ng-wr0ng").look()
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
    assert "wr0ng" not in caught.value.message
