"""Template trees by digest, per tenant: what a registry pinned and what a job renders from.

A tree is ``{path: (bytes, mode)}``. It is stored as one compressed value in a canonical form, and its digest
(``unjucks_api.tree``) is computed again on the way in and on the way out: a renderer that lies about a digest, or a damaged
row, is an error, never other templates. Sizes are bounded before anything is unpacked. Acts as the tenant's role, so row
security keeps trees of two tenants apart even when they are equal. Called by the registry and job controllers.
"""

# ruff: noqa: S608  statements are put together from constants of this package only; every value is a parameter

import asyncio
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import orjson

from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_operator import errors
from unjucks_operator.database.pool import TenantTransactions

Tree = Mapping[str, tuple[bytes, int]]
"""Normalised path -> (content, mode). Only the owner's x-bit of a mode counts; reading gives 0o644 or 0o755."""

MAX_TREE_BYTES: Final = 16 * 1024 * 1024
"""All files of a tree together, unpacked."""
MAX_TREE_FILES: Final = 10_000
_MAGIC: Final = b"unjucks-tree-1\n"
_MAX_HEADER: Final = MAX_TREE_FILES * 1200


class ArtifactInvalid(errors.Terminal):
    """A tree that is not what its digest says, or is too large."""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """A stored tree without its content. ``size`` is bytes before compression."""

    digest: str
    size: int
    files: int


def encode_tree(tree: Tree) -> bytes:
    """The canonical compressed form: equal trees give equal bytes. Raises ArtifactInvalid for bad paths and sizes."""
    paths = sorted(tree, key=str.encode)
    if len(paths) > MAX_TREE_FILES:
        raise ArtifactInvalid(f"the tree has {len(paths)} files; at most {MAX_TREE_FILES} are stored")
    total = sum(len(tree[path][0]) for path in paths)
    if total > MAX_TREE_BYTES:
        raise ArtifactInvalid(f"the tree has {total} bytes; at most {MAX_TREE_BYTES} are stored")
    try:
        for path in paths:
            if check_path(path) != path:
                raise ArtifactInvalid(f"path {path[:120]!r} is not in Unicode NFC")
        check_collisions(tree)
    except PathRejectedError as error:
        raise ArtifactInvalid(str(error)) from None
    header = orjson.dumps([[path, tree[path][1] & 0o100 != 0, len(tree[path][0])] for path in paths])
    packer = zlib.compressobj(6)
    packed = [packer.compress(struct.pack(">I", len(header)) + header)]
    packed += [packer.compress(tree[path][0]) for path in paths]
    return _MAGIC + b"".join(packed) + packer.flush()


def decode_tree(packed: bytes) -> dict[str, tuple[bytes, int]]:
    """The tree of ``encode_tree``. Raises ArtifactInvalid for anything else; never unpacks more than the limits allow."""
    try:
        if not packed.startswith(_MAGIC):
            raise ValueError("it does not start as a tree does")
        unpacker = zlib.decompressobj()
        limit = MAX_TREE_BYTES + _MAX_HEADER + 4
        plain = unpacker.decompress(packed[len(_MAGIC) :], limit + 1)
        if len(plain) > limit:
            raise ValueError("it unpacks to more than the limit")
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("it is cut off, or something follows it")
        (length,) = struct.unpack_from(">I", plain)
        if length > _MAX_HEADER or 4 + length > len(plain):
            raise ValueError("its list of files is too long")
        tree: dict[str, tuple[bytes, int]] = {}
        at = 4 + length
        for path, executable, size in orjson.loads(plain[4:at]):
            if not (isinstance(path, str) and isinstance(executable, bool) and isinstance(size, int) and size >= 0):
                raise ValueError("its list of files is malformed")
            tree[check_path(path)] = (plain[at : at + size], 0o755 if executable else 0o644)
            at += size
        if at != len(plain):
            raise ValueError("its files do not add up")
    except (ValueError, TypeError, struct.error, zlib.error) as error:  # PathRejectedError is a ValueError
        raise ArtifactInvalid(f"a stored tree cannot be read: {error}") from None
    return tree


class Artifacts:
    """Stored trees. Every method acts as the tenant role it is given."""

    def __init__(self, database: TenantTransactions) -> None:
        self._database = database

    async def put(self, role: str, digest: str, tree: Tree) -> ArtifactInfo:
        """Stores ``tree`` under ``digest``; repeating it is harmless and mends a damaged row.

        Raises ArtifactInvalid when the digest is not that of the tree.
        """
        actual, packed = await asyncio.to_thread(lambda: (tree_digest(tree), encode_tree(tree)))
        if actual != digest:
            raise ArtifactInvalid(f"the tree has digest {actual}, not {digest[:80]}")
        size = sum(len(content) for content, _ in tree.values())
        async with self._database.tenant_tx(role) as connection:
            await connection.execute(_PUT, digest, packed, size, len(tree))
        return ArtifactInfo(digest, size, len(tree))

    async def get(self, role: str, digest: str) -> dict[str, tuple[bytes, int]] | None:
        """The tree, checked against ``digest``; None when the tenant has none of that digest.

        Raises ArtifactInvalid when the row is damaged; ``put`` of the same tree mends it.
        """
        async with self._database.tenant_tx(role, purpose="read") as connection:
            packed = await connection.fetchval(
                f"SELECT content FROM unjucks.artifact WHERE tenant_id = {OWN} AND digest = $1", digest
            )
        if packed is None:
            return None

        def unpack() -> tuple[str, dict[str, tuple[bytes, int]]]:
            tree = decode_tree(packed)
            return tree_digest(tree), tree

        actual, tree = await asyncio.to_thread(unpack)
        if actual != digest:
            raise ArtifactInvalid(f"the stored tree {digest} is damaged: its content has digest {actual}")
        return tree

    async def list(self, role: str) -> tuple[ArtifactInfo, ...]:
        """What the tenant has, without contents, by digest."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            rows = await connection.fetch(
                f"SELECT digest, size, files FROM unjucks.artifact WHERE tenant_id = {OWN} ORDER BY digest"
            )
        return tuple(ArtifactInfo(row["digest"], row["size"], row["files"]) for row in rows)

    async def prune_unreferenced(self, role: str, keep: Collection[str], *, unused_for: timedelta) -> tuple[str, ...]:
        """Deletes trees that are not in ``keep`` and were last put longer than ``unused_for`` ago; returns their digests.

        The age protects a tree that was stored a moment ago and whose registry's status is not written yet.
        """
        async with self._database.tenant_tx(role) as connection:
            rows = await connection.fetch(
                f"DELETE FROM unjucks.artifact WHERE tenant_id = {OWN} AND digest <> ALL ($1::text[]) "
                "AND used_at < now() - $2::interval RETURNING digest",
                list(keep), unused_for,
            )  # fmt: skip
        return tuple(sorted(row["digest"] for row in rows))


OWN: Final = "(SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = current_user AND t.state = 'active')"
"""The tenant that the transaction's role is. Row security says the same; said here too, it serves as an index condition."""

_PUT: Final = f"""
    INSERT INTO unjucks.artifact AS a (tenant_id, digest, content, size, files) VALUES ({OWN}, $1, $2, $3, $4)
    ON CONFLICT (tenant_id, digest) DO UPDATE
       SET content = excluded.content, size = excluded.size, files = excluded.files, used_at = now()
"""
