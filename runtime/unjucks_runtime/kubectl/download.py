"""The files of an output, taken out of its ConfigMap or Secret: every one checked against the manifest beside them. Pure.

The layout is the operator's (``docs/registries-and-jobs.md``): a key for each file, and ``manifest.json`` that maps paths to keys.
"""

import base64
import binascii
import hashlib
import json

from unjucks_runtime.cli.output import Exit
from unjucks_runtime.generator.result import File, Status
from unjucks_runtime.kubectl.cluster import ClusterError, Manifest

MANIFEST = "manifest.json"


def files_of(output: Manifest) -> list[File]:
    """All files, checked. Raises ClusterError when the output is damaged: a file is missing, or has another digest."""
    contents = _contents(output)
    where = f"{output.get('kind', 'output')} {output['metadata']['name']}"
    try:
        rows = json.loads(contents[MANIFEST])["files"]
        listed = [(str(row["path"]), str(row["key"]), str(row["sha256"]), int(row["mode"], 8)) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise ClusterError(f"{where} has no readable {MANIFEST}; run the job again", Exit.FAILED) from None
    files = []
    for path, key, digest, mode in listed:
        content = contents.get(key)
        if content is None:
            raise ClusterError(f"{where} has lost the file {path}; run the job again", Exit.FAILED)
        if hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
            raise ClusterError(f"{where}: the file {path} was changed by somebody; run the job again", Exit.FAILED)
        files.append(File(path, Status.CREATED, content, 0o755 if mode & 0o100 else 0o644, ""))
    return files


def _contents(output: Manifest) -> dict[str, bytes]:
    encoded = dict(output.get("binaryData") or {})
    plain = dict(output.get("data") or {})
    if output.get("kind") == "Secret":
        encoded, plain = plain, {}
    try:
        return {key: text.encode() for key, text in plain.items()} | {
            key: base64.b64decode(text, validate=True) for key, text in encoded.items()
        }
    except binascii.Error:
        raise ClusterError("the API server sent data that is no base64", Exit.FAILED) from None
