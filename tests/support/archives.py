"""Archives for tests, also such as an enemy packs them."""

import gzip
import io
import tarfile

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, content: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> Member:
    """One entry; ``kind`` is a type of ``tarfile``."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(*members: Member, style: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=style) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def packed(*members: Member) -> bytes:
    """A .tar.gz archive; equal members give equal bytes."""
    return gzip.compress(tar(*members), mtime=0)
