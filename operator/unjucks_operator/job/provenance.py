"""Where the files of a run come from: an in-toto statement with a SLSA v1 predicate, signed when the platform has a key.

Deterministic: it holds no time and nothing random, so every attempt of a run makes the same statement. Of variables from Secrets it
has the names only; when the tenant's data policy takes sensitive data out of files, or refuses it, values of variables are left out
altogether, because nobody searches them. Two statements about the same content made by the same means are the same
(``is_same_statement``), whichever run made them: what tells runs apart is in ``runDetails``. Signing is DSSE. Pure.
Called by the outputs.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from unjucks_api import names
from unjucks_api.render_protocol import OnFinding
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.job.outputs.files import MANIFEST_NAME, File
from unjucks_operator.job.plan import Run
from unjucks_operator.signing import Signer

STATEMENT_NAME = "provenance.json"
BUILD_TYPE = f"https://{names.GROUP}/template-render/v1"
BUILDER = f"https://{names.GROUP}/operator/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
MAX_VARIABLES = 64 * 1024
"""Bytes of variables that a statement holds; of more it has the digest."""

_JSON = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


@dataclass(frozen=True, slots=True)
class Attested:
    """The file, and the digest of the statement in it as it was before it was signed."""

    content: bytes
    digest: str
    key_id: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """For ``status.provenance``."""
        return {"digest": self.digest} | ({"keyId": self.key_id} if self.key_id else {})


def attest(
    job: GenerationJob,
    run: Run,
    files: Sequence[File],
    manifest: bytes,
    *,
    engine: str,
    image: str = "",
    signer: Signer | None = None,
) -> Attested:
    """The statement about ``files`` (those in the output) and the manifest; an envelope around it when there is a key."""
    statement = orjson.dumps(_statement(job, run, files, manifest, engine, image), option=_JSON)
    digest = "sha256:" + hashlib.sha256(statement).hexdigest()
    if signer is None:
        return Attested(statement, digest)
    signature = signer.sign(pre_authentication(PAYLOAD_TYPE, statement))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(statement).decode(),
        "signatures": [{"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return Attested(orjson.dumps(envelope, option=_JSON), digest, signer.key_id)


def facts_of(content: bytes) -> dict[str, str]:
    """For ``status.provenance``, from a statement that was found; empty when it cannot be read. Its signature is not checked."""
    try:
        told = orjson.loads(content)
        key = str(told["signatures"][0]["keyid"])[:128] if "payload" in told else ""
        statement = base64.b64decode(told["payload"], validate=True) if "payload" in told else content
    except (ValueError, KeyError, TypeError, IndexError):
        return {}
    return Attested(b"", "sha256:" + hashlib.sha256(statement).hexdigest(), key).facts


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """What DSSE signs: the type and the payload, each with its length."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def is_same_statement(found: bytes, wanted: bytes) -> bool:
    """Whether both say the same about the same files, and are signed by the same keys or by none."""
    one, two = _opened(found), _opened(wanted)
    return one is not None and one == two


def _opened(content: bytes) -> Any:
    try:
        told = orjson.loads(content)
        keys: list[str] = []
        if "payload" in told:
            keys = sorted(str(item["keyid"]) for item in told["signatures"])
            told = orjson.loads(base64.b64decode(told["payload"], validate=True))
        return keys, told["subject"], told["predicate"]["buildDefinition"]
    except (ValueError, KeyError, TypeError):
        return None


def _statement(
    job: GenerationJob, run: Run, files: Sequence[File], manifest: bytes, engine: str, image: str
) -> dict[str, Any]:
    subjects = [{"name": file.path, "digest": {"sha256": file.sha256}} for file in files]
    subjects.append({"name": MANIFEST_NAME, "digest": {"sha256": hashlib.sha256(manifest).hexdigest()}})
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "registry": f"{job.namespace}/{job.spec.registry_ref.name}",
                    "generator": run.generator,
                    "action": run.action,
                    "job": f"{job.namespace}/{job.name}",
                    "sensitiveVariables": list(run.sensitive),
                    **_variables(run),
                },
                "internalParameters": {"engine": engine},
                "resolvedDependencies": [
                    {
                        "name": "templates",
                        "digest": {"sha256": run.tree.removeprefix("sha256:")},
                        "annotations": {"format": "unjucks-tree-v1"},
                    }
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER, **({"builderDependencies": [{"uri": image}]} if image else {})},
                "metadata": {"invocationId": run.key},
            },
        },
    }


def _variables(run: Run) -> dict[str, Any]:
    if run.on_finding is not OnFinding.WARN:
        return {"variableNames": sorted(run.variables)}
    told = without(run.variables, run.sensitive)
    size = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    if len(size) > MAX_VARIABLES:
        return {"variablesDigest": {"sha256": hashlib.sha256(size).hexdigest()}}
    return {"variables": told}


def without(values: Mapping[str, Any], sensitive: Sequence[str], path: str = "") -> dict[str, Any]:
    """The variables without those that ``sensitive`` names (with dots), and without what lies below them. Pure."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if inner in sensitive:
            continue
        below = any(item.startswith(inner + ".") for item in sensitive)
        kept[name] = without(value, sensitive, inner) if below and isinstance(value, Mapping) else value
    return kept
