"""Reads the source of a TemplateRegistry: its version without a request where possible, its bytes when they are needed.

Called by ``registry.reconcile``. Opens nothing: archives go to the renderer as they are.
"""

import base64
from collections.abc import Mapping

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeRequest, Limits, OnFinding, SourceFile
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_operator.artifact import engine_options
from unjucks_operator.errors import Conflict, Terminal, Waiting
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import CONFIG_MAP
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.registry.plan import INLINE, REMOTE

ARCHIVE_KEY = "templates.tgz"
RETRY_MISSING = 15.0
_FOLDER = "__"


def source_version(registry: TemplateRegistry, config_maps: ChildStore) -> str:
    """The state of what the registry reads. Raises Waiting (SourceNotFound) when its ConfigMap does not exist."""
    if registry.spec.remote:
        return REMOTE
    reference = registry.spec.config_map_ref
    if reference is None:
        return INLINE
    child = config_maps.get(registry.namespace, reference.name)
    if child is None:
        raise Waiting(
            f"ConfigMap {reference.name} does not exist in namespace {registry.namespace}",
            reason=Reason.SOURCE_NOT_FOUND,
            after=RETRY_MISSING,
        )
    return f"{child.uid}/{child.resource_version}"


async def read_source(
    api: KubeApi,
    registry: TemplateRegistry,
    version: str,
    limits: Limits,
    on_finding: OnFinding,
    fetched: list[SourceFile] | None = None,
) -> AnalyzeRequest:
    """What the renderer is asked to analyse; ``fetched``: what the courier brought. Raises Conflict when the ConfigMap is no longer
    at ``version``."""
    reference = registry.spec.config_map_ref
    archive: str | None = None
    files: list[SourceFile] = []
    if fetched is not None:
        files = fetched
    elif reference is None:
        inline = registry.spec.inline.files if registry.spec.inline else {}
        files = _files({path: text.encode() for path, text in inline.items()})
    else:
        manifest = await api.get(CONFIG_MAP, reference.name, registry.namespace)
        if manifest is None or _version_of(manifest) != version:
            raise Conflict(f"ConfigMap {reference.name} was changed while it was read")
        files, archive = _config_map(manifest)
    return AnalyzeRequest(
        files=files,
        archive=archive,
        path=registry.spec.path,
        engine=engine_options(registry),
        shared_schema=registry.spec.variables.schema_,
        limits=limits,
        on_finding=on_finding,
    )


def _version_of(manifest: Manifest) -> str:
    return f"{manifest['metadata']['uid']}/{int(manifest['metadata']['resourceVersion'])}"


def _config_map(manifest: Manifest) -> tuple[list[SourceFile], str | None]:
    texts: Mapping[str, str] = manifest.get("data") or {}
    binary: Mapping[str, str] = manifest.get("binaryData") or {}
    if ARCHIVE_KEY in binary:
        if texts or len(binary) > 1:
            raise Terminal(
                f"ConfigMap {manifest['metadata']['name']} has {ARCHIVE_KEY} and other keys too; use one or the other",
                reason=Reason.ARCHIVE_INVALID,
            )
        return [], binary[ARCHIVE_KEY]
    contents = {key.replace(_FOLDER, "/"): text.encode() for key, text in texts.items()}
    contents |= {key.replace(_FOLDER, "/"): base64.b64decode(data) for key, data in binary.items()}
    return _files(contents), None


def _files(contents: Mapping[str, bytes]) -> list[SourceFile]:
    files = []
    for path, content in contents.items():
        try:
            files.append(SourceFile(path=check_path(path), content=base64.b64encode(content).decode()))
        except PathRejectedError as error:
            raise Terminal(str(error), reason=Reason.PATH_REJECTED) from None
    return files
