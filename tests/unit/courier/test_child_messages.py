"""What a failed task tells: nothing of the request's credentials, also when a server says them."""

import base64

import orjson
import pytest

from unjucks_api.courier_protocol import FetchRequest, HttpSource
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.child import FAILURE, perform
from unjucks_runtime.courier.errors import CourierError

IDENTITY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n"
DOCKER = '{"auths": {"r.example": {"auth": "dTpzM2NyZXQtb25l", "password": "s3cret-two"}}}'


@pytest.mark.parametrize(
    ("credentials", "echo"),
    [
        ({"password": "s3cret-word\n"}, "s3cret-word"),
        ({"username": "me", "password": "s3cret-word"}, base64.b64encode(b"me:s3cret-word").decode()),
        ({"bearerToken": "ghp_abcdef"}, "Bearer ghp_abcdef"),
        ({"identity": IDENTITY}, "MC4CAQAwBQYDK2Vw"),
        ({".dockerconfigjson": DOCKER}, "dTpzM2NyZXQtb25l"),
        ({".dockerconfigjson": DOCKER}, "s3cret-two"),
        ({"secretkey": "s3cret/key+"}, "s3cret/key+"),
    ],
)
def test_a_server_that_echoes_a_credential_does_not_put_it_into_status(credentials: dict[str, str], echo: str) -> None:
    request = FetchRequest(
        source=HttpSource(url="https://x.example/t"),
        credentials={key: base64.b64encode(text.encode()).decode() for key, text in credentials.items()},
        certificates={},
        signers={},
    )

    def task(_: bytes) -> bytes:
        raise CourierError(Reason.AUTHENTICATION_FAILED, f"x.example refused: no {echo} here", path=echo)

    answer = perform(task, request.model_dump_json().encode())
    assert answer[:1] == FAILURE
    told = orjson.loads(answer[1:])
    hidden = echo.removeprefix("Bearer ")
    assert hidden not in told["message"]
    assert hidden not in told["path"]
    assert told["message"].startswith("x.example refused: no ")
    assert "***" in told["message"]


def test_other_words_stay_as_they_are() -> None:
    def task(_: bytes) -> bytes:
        raise CourierError(Reason.AUTHENTICATION_FAILED, "user me was refused")

    request = {"credentials": {"username": base64.b64encode(b"user me").decode(), "password": "bm8="}, "x": [{}]}
    assert orjson.loads(perform(task, orjson.dumps(request))[1:])["message"] == "user me was refused"
    assert orjson.loads(perform(task, b"no JSON")[1:])["message"] == "user me was refused"
