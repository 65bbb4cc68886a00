"""How a ConfigMap holds template files: a key is a path with ``__`` for ``/``, or one archive under ``templates.tgz``. Pure.

Called by the operator, which only passes bytes on; a renderer checks paths and unpacks.
"""

import base64
import binascii
from collections.abc import Mapping

from unjucks_api.render_protocol import SourceFile

ARCHIVE_KEY = "templates.tgz"


class ConfigMapSourceError(ValueError):
    """The ConfigMap holds no template source; the message says what to change."""


def path_of_key(key: str) -> str:
    """``a__b.njk`` is ``a/b.njk``; a single underscore stays: ``_templates__api__new``, and ``a___b`` is ``a/_b``."""
    return key.replace("__", "/")


def source_of(data: Mapping[str, str] | None, binary: Mapping[str, str] | None) -> tuple[list[SourceFile], str | None]:
    """(files, archive as base64) of a ConfigMap's ``data`` and ``binaryData``; one of the two is empty.

    Raises ConfigMapSourceError when there is nothing, both, or an archive as text.
    """
    data, binary = data or {}, binary or {}
    if ARCHIVE_KEY in data:
        raise ConfigMapSourceError(f"{ARCHIVE_KEY} stands in data; an archive has to be in binaryData")
    archive = binary.get(ARCHIVE_KEY)
    if archive is not None:
        if len(data) + len(binary) > 1:
            raise ConfigMapSourceError(f"there are other keys beside {ARCHIVE_KEY}; keep the archive or the files")
        return [], archive
    if not data and not binary:
        raise ConfigMapSourceError("the ConfigMap is empty; each key is a file, with __ for / in its path")
    files: dict[str, SourceFile] = {}
    for key in sorted({*data, *binary}):
        path = path_of_key(key)
        if path in files:
            raise ConfigMapSourceError(f"two keys mean the path {path!r}")
        try:
            content = base64.b64encode(
                data[key].encode() if key in data else base64.b64decode(binary[key], validate=True)
            )
        except (UnicodeEncodeError, binascii.Error):
            raise ConfigMapSourceError(f"key {key!r} cannot be read as text or base64") from None
        files[path] = SourceFile(path=path, content=content.decode())
    return list(files.values()), None
