"""Writes the one-file image archives that need no image builder: a program and nothing else (format ``docker-archive``)."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, 0
    archive.addfile(entry, io.BytesIO(content))


def single_program_image(target: Path, reference: str, program: Path, *, architecture: str) -> None:
    """An image whose only file is ``/<program's name>``, run as user 65535; same input, same bytes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        _add(archive, program.name, program.read_bytes(), 0o755)
    content = layer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    config: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    encoded = json.dumps(config).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}.tar"]}]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as archive:
        _add(archive, f"{digest}.tar", content, 0o644)
        _add(archive, name, encoded, 0o644)
        _add(archive, "manifest.json", json.dumps(manifest).encode(), 0o644)
