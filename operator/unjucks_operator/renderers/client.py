"""The operator's door to one renderer pod: what is asked, and answers that are checked as if an enemy had sent them.

The call itself is ``calls``. Called through ``pool`` (warm renderers) and by the job's wiring (isolated pods).
"""

import base64
import binascii
import hashlib

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    ANALYZE_PATH,
    RENDER_PATH,
    AnalyzeRequest,
    AnalyzeResponse,
    Limits,
    RenderRequest,
    RenderResponse,
)
from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_operator.errors import Bug
from unjucks_operator.renderers.calls import Endpoint as Endpoint
from unjucks_operator.renderers.calls import PodClient, TreeNeeded
from unjucks_operator.renderers.calls import RenderFailure as RenderFailure
from unjucks_operator.renderers.calls import printable as printable

_REMOVING = frozenset({"skipped", "removed"})


class RendererClient(PodClient):
    """Calls one renderer. Errors: RenderFailure, Unavailable (RendererUnavailable), Retryable (RendererLost), Bug."""

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeResponse:
        """Have a tree normalised and checked. The result's digest and paths were computed again here."""
        response = await self._call(ANALYZE_PATH, request, AnalyzeResponse, request.limits.wall_seconds)
        return verified_analysis(response, request.limits)

    async def render(self, request: RenderRequest) -> RenderResponse:
        """Run one action. Files are left out when the renderer should have the tree, and sent when it has not."""
        if request.files and request.digest in self.known:
            try:
                return await self._render(request.model_copy(update={"files": []}))
            except TreeNeeded:
                self.known.discard(request.digest)
        try:
            result = await self._render(request)
        except TreeNeeded:
            raise Bug(f"renderer {self.endpoint.pod} asks for a tree that it was sent") from None
        self.known.add(request.digest)
        return result

    async def _render(self, request: RenderRequest) -> RenderResponse:
        response = await self._call(RENDER_PATH, request, RenderResponse, request.limits.wall_seconds)
        return verified_render(response, request.limits)


def verified_render(response: RenderResponse, limits: Limits) -> RenderResponse:
    """The response, when every path is safe, every digest and size right and all bounds are kept. Pure.

    Raises RenderFailure: PathRejected, OutputTooLarge or ManifestMismatch.
    """
    if len(response.files) > limits.files:
        raise RenderFailure(
            f"the run made {len(response.files)} files; {limits.files} are allowed",
            reason=Reason.OUTPUT_TOO_LARGE,
            limit="files",
        )
    _check_paths([file.path for file in response.files])
    total = 0
    for file in response.files:
        if file.action in _REMOVING and not file.content:
            continue
        content = _decode(file.content, file.path)
        total += len(content)
        if len(content) != file.size or _hex_digest(file.sha256) != hashlib.sha256(content).hexdigest():
            raise RenderFailure(
                f"file {file.path!r}: size or sha256 is not that of the content that came with it",
                reason=Reason.MANIFEST_MISMATCH,
                path=file.path,
            )
        if file.mode not in (0o644, 0o755):
            raise RenderFailure(
                f"file {file.path!r}: mode {file.mode:o} is neither 644 nor 755",
                reason=Reason.MANIFEST_MISMATCH,
                path=file.path,
            )
    if total > limits.output_bytes:
        raise RenderFailure(
            f"the run made {total} bytes; {limits.output_bytes} are allowed",
            reason=Reason.OUTPUT_TOO_LARGE,
            limit="output",
        )
    return response


def verified_analysis(response: AnalyzeResponse, limits: Limits) -> AnalyzeResponse:
    """The response, when its digest is that of its files and all paths are safe. Pure. Raises RenderFailure."""
    _check_paths([file.path for file in response.files])
    files = {file.path: (_decode(file.content, file.path), file.mode) for file in response.files}
    if sum(len(content) for content, _ in files.values()) > limits.source_bytes:
        raise RenderFailure(
            f"the templates are larger than {limits.source_bytes} bytes",
            reason=Reason.ARCHIVE_TOO_LARGE,
            limit="source",
        )
    if tree_digest(files) != response.digest:
        raise RenderFailure(
            "the analysed tree has another digest than the renderer says", reason=Reason.MANIFEST_MISMATCH
        )
    return response


def _check_paths(paths: list[str]) -> None:
    try:
        for path in paths:
            if check_path(path) != path:
                raise PathRejectedError(f"path {path[:120]!r} is refused: it is not in Unicode NFC")
        check_collisions(paths)
    except PathRejectedError as error:
        raise RenderFailure(str(error), reason=Reason.PATH_REJECTED) from None


def _decode(content: str, path: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise RenderFailure(
            f"file {path!r}: its content is not base64", reason=Reason.MANIFEST_MISMATCH, path=path
        ) from None


def _hex_digest(text: str) -> str:
    return text.removeprefix("sha256:")
