"""The statement beside the manifest: what it says, what it never says, that it is the same for the same run, and its signature."""

import base64
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support import api_samples
from unjucks_api.render_protocol import EngineOptions, OnFinding
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.plan import Run
from unjucks_operator.job.provenance import (
    MAX_VARIABLES,
    PAYLOAD_TYPE,
    attest,
    facts_of,
    is_same_statement,
    pre_authentication,
)
from unjucks_operator.signing import Signer, read_signer

JOB = GenerationJob.parse(api_samples.body("GenerationJob", api_samples.job()))
MANIFEST = b'{"version": 1}'


def file(path: str, content: bytes = b"x") -> File:
    return File(path, content, 0o644, hashlib.sha256(content).hexdigest(), "created")


def run(**fields: Any) -> Run:
    told: dict[str, Any] = {
        "key": "a" * 40, "inputs_digest": "hmac-sha256:1", "tree": "sha256:" + "2" * 64, "generator": "api", "action": "crud",
        "variables": {"entity": "Order", "database": {"url": "postgres://hunter2", "pool": 3}, "token": "hunter2"},
        "sensitive": ("database.url", "token"), "engine": EngineOptions(),
    } | fields  # fmt: skip
    return Run(**told)


def made(signer: Signer | None = None, **fields: Any) -> bytes:
    files = [file("a.txt"), file("b.txt", b"y")]
    return attest(JOB, run(**fields), files, MANIFEST, engine="1.0", image="renderer@sha256:1", signer=signer).content


def signer_of(key: Any) -> Signer:
    return read_signer(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_it_names_every_file_the_manifest_the_templates_and_the_builder() -> None:
    told = orjson.loads(made())
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {item["name"]: item["digest"]["sha256"] for item in told["subject"]}
    assert subjects == {
        "a.txt": hashlib.sha256(b"x").hexdigest(),
        "b.txt": hashlib.sha256(b"y").hexdigest(),
        "manifest.json": hashlib.sha256(MANIFEST).hexdigest(),
    }
    definition = told["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"][0]["digest"] == {"sha256": "2" * 64}
    assert definition["externalParameters"]["generator"] == "api"
    builder = told["predicate"]["runDetails"]["builder"]
    assert builder["builderDependencies"] == [{"uri": "renderer@sha256:1"}]


def test_values_of_secrets_are_in_no_statement_and_their_names_are() -> None:
    content = made()
    assert b"hunter2" not in content
    parameters = orjson.loads(content)["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["variables"] == {"entity": "Order", "database": {"pool": 3}}
    assert parameters["sensitiveVariables"] == ["database.url", "token"]


@pytest.mark.parametrize("policy", [OnFinding.REDACT, OnFinding.BLOCK])
def test_no_values_at_all_where_sensitive_data_is_taken_out(policy: OnFinding) -> None:
    content = made(on_finding=policy, variables={"card": "4111 1111 1111 1111"}, sensitive=())
    assert b"4111" not in content
    assert b'"variableNames"' in content


def test_many_variables_are_a_digest() -> None:
    content = made(variables={"text": "x" * MAX_VARIABLES}, sensitive=())
    assert len(content) < MAX_VARIABLES
    assert b'"variablesDigest"' in content


def test_a_run_makes_the_same_statement_again_and_another_run_the_same_but_for_its_name() -> None:
    assert made() == made()
    assert made() != made(key="b" * 40)
    assert is_same_statement(made(), made(key="b" * 40))
    assert not is_same_statement(made(), made(action="other"))
    assert not is_same_statement(b"", made())
    assert not is_same_statement(b"[]", made())


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())], ids=["ed25519", "p256"]
)
def test_openssl_verifies_the_envelope(key: Any, tmp_path: Path) -> None:
    """The recipe of docs/outputs.md, with the real openssl."""
    signer = signer_of(key)
    envelope = orjson.loads(made(signer))
    assert envelope["payloadType"] == PAYLOAD_TYPE
    payload = base64.b64decode(envelope["payload"])
    assert payload == made()
    assert envelope["signatures"][0]["keyid"] == signer.key_id
    (tmp_path / "message").write_bytes(pre_authentication(PAYLOAD_TYPE, payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    raw = ["-rawin"] if isinstance(key, ed25519.Ed25519PrivateKey) else ["-rawin", "-digest", "sha256"]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", *raw]
    command += ["-in", "message", "-sigfile", "signature"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "message").write_bytes(pre_authentication(PAYLOAD_TYPE, payload + b" "))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_a_signature_does_not_make_another_statement_of_it() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    one, two = made(signer_of(key)), made(signer_of(key), key="b" * 40)
    assert is_same_statement(one, two)
    assert not is_same_statement(one, made()), "an unsigned one is replaced once there is a key"
    assert facts_of(one)["keyId"] == signer_of(key).key_id
    assert facts_of(one)["digest"] == facts_of(made())["digest"]


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nonsense",
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    ],
    ids=["empty", "nonsense", "rsa", "p384"],
)
def test_other_keys_are_refused(pem: bytes) -> None:
    with pytest.raises(InvalidSpec, match="key for provenance"):
        read_signer(pem)
