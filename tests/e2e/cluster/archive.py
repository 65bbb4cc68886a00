"""Writes one-file image archives (format ``docker-archive``) without an image builder: one layer and its configuration.

Same input, same bytes. For the images everything else stands on: pause, and the base images made of Debian packages.
"""

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


def write_image(target: Path, reference: str, layer: Path, settings: dict[str, Any], *, architecture: str) -> None:
    """An image of one uncompressed layer; ``settings`` is the image's ``config`` (Env, User, Entrypoint, …)."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    encoded = json.dumps(config, sort_keys=True).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}.tar"]}]
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}")
    with tarfile.open(work, "w") as archive:
        _add(archive, "manifest.json", json.dumps(manifest).encode(), 0o644)
        _add(archive, name, encoded, 0o644)
        entry = tarfile.TarInfo(f"{digest}.tar")
        entry.size, entry.mode, entry.mtime = layer.stat().st_size, 0o644, 0
        with layer.open("rb") as file:
            archive.addfile(entry, file)
    work.rename(target)


def write_program_image(target: Path, reference: str, program: Path, *, architecture: str) -> None:
    """An image whose only file is ``/<program's name>``, run as an unprivileged user."""
    target.parent.mkdir(parents=True, exist_ok=True)
    layer = target.with_name(f".{target.name}.layer")
    with tarfile.open(layer, "w") as archive:
        _add(archive, program.name, program.read_bytes(), 0o755)
    settings = {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"}
    write_image(target, reference, layer, settings, architecture=architecture)
    layer.unlink()
