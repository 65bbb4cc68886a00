"""Template sets, and what comes out of them: the library behind the renderer and the ``unjucks`` command. Pure but for two modules.

    files = read_tree("templates")                          # disk: path -> (bytes, mode); or any mapping, from any source
    templates = load_tree(files)                            # parse; problems collected with path, line, column; no template
    code runs with FolderTree("out") as base:                         # what exists already, read on demand
        result = generate(templates, "api", "crud", {"entity": "Order"}, base=base)
        print(diff(result, base))                           # unified diff
        write_atomically(result, "out")                     # all or nothing
    manifest(result)                                        # sha256 of each file

Trees are mappings ``path -> (content, mode)``. Only ``disk`` reads and only ``write`` writes; everything else is a function of its
arguments, and the same arguments give the same bytes.
"""

from unjucks_runtime.generator.disk import FolderTree, read_tree
from unjucks_runtime.generator.errors import GenerationError, Place, VariablesError
from unjucks_runtime.generator.generate import generate
from unjucks_runtime.generator.load import load_tree
from unjucks_runtime.generator.model import Action, TemplateSet, Tree
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.result import File, Result, Skipped, Status, diff, digests, manifest, rendered_tree
from unjucks_runtime.generator.write import recover, write_atomically

__all__ = [
    "Action",
    "File",
    "FolderTree",
    "GenerationError",
    "Options",
    "Place",
    "Result",
    "Skipped",
    "Status",
    "TemplateSet",
    "Tree",
    "VariablesError",
    "diff",
    "digests",
    "generate",
    "load_tree",
    "manifest",
    "read_tree",
    "recover",
    "rendered_tree",
    "write_atomically",
]
