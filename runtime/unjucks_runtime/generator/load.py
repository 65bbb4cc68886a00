"""Loads a template set out of a tree of files in memory. Never runs template code, never touches a disk; collects all problems.

    <path>/unjucks.yaml, <path>/_templates/<generator>/{generator.yaml,_shared/…,<action>/{action.yaml,_tests/…,files…}}

Called by the renderer server (analysis at ingest, and before each generation), by golden tests and by the command line.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Problem
from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_runtime.generator import actionfile, frontmatter, inspection, schemas
from unjucks_runtime.generator.errors import GenerationError, ParseError
from unjucks_runtime.generator.globs import matches
from unjucks_runtime.generator.model import (
    TEMPLATE_SUFFIXES,
    Action,
    TemplateFile,
    TemplateSet,
    TestCase,
    Tree,
    problem,
)
from unjucks_runtime.generator.options import Options

MAX_FILES: Final = 10_000
MAX_TREE_BYTES: Final = 64 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LEGACY_SIDE_FILES: Final = frozenset(
    {"config.yml", "config.yaml", "meta.yml", "meta.yaml", "prompt.js", "prompt.ts", "index.js"}
)
_SIDE_FILES: Final = frozenset({"action.yaml"})


def load_tree(files: Tree, path: str = ".", *, options: Options | None = None, check: bool = True) -> TemplateSet:
    """The template set below ``path`` of ``files``.

    Problems are collected, with path, line and column, and do not stop the loading of other actions. With ``check`` every template
    is parsed by the engine and compared with the declared variables; a generation that loads a set only to run one action
    can leave that out. Raises GenerationError only when there is no set at all (path not found, tree too large, bad paths).
    """
    options = options or Options()
    _check_tree(files)
    base = "" if path.strip("/") in ("", ".") else check_folder(path) + "/"
    inside = {name[len(base) :]: item for name, item in files.items() if name.startswith(base)}
    if not inside:
        raise GenerationError(Reason.PATH_NOT_FOUND, f"there is no folder {path!r} in the source")
    folder = next(
        (name for name in ("_templates", "templates") if any(key.startswith(name + "/") for key in inside)), None
    )
    if folder is None:
        raise GenerationError(
            Reason.NO_TEMPLATES,
            f"there is no folder _templates below {path!r}; it holds _templates/<generator>/<action>/",
        )
    return _Loader(files, base, folder, options, check).load()


def check_folder(path: str) -> str:
    """A folder inside a tree, normalised; raises GenerationError for one that leads elsewhere."""
    try:
        return check_path(path.removeprefix("./").strip("/"))
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_NOT_FOUND, str(error)) from None


def _check_tree(files: Tree) -> None:
    if len(files) > MAX_FILES:
        raise GenerationError(
            Reason.ARCHIVE_TOO_LARGE, f"the tree has {len(files)} files; at most {MAX_FILES} are allowed", limit="files"
        )
    if sum(len(content) for content, _ in files.values()) > MAX_TREE_BYTES:
        raise GenerationError(
            Reason.ARCHIVE_TOO_LARGE, f"the tree is larger than {MAX_TREE_BYTES} bytes", limit="source_bytes"
        )
    try:
        for name in files:
            check_path(name)
        check_collisions(list(files))
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, str(error)) from None


class _Loader:
    def __init__(self, files: Tree, base: str, folder: str, options: Options, check: bool) -> None:
        self.files = files
        self.base = base
        self.root = base + folder
        self.options = options
        self.check = check
        self.problems: list[Problem] = []
        self.classification = ""
        self.sources: dict[str, str] = {}
        self.offsets: dict[str, int] = {}
        self.below = {
            name[len(self.root) + 1 :]: item for name, item in files.items() if name.startswith(self.root + "/")
        }

    def text(self, name: str) -> str | None:
        """The text of a side file; None when absent; a problem when it is not UTF-8."""
        item = self.files.get(name)
        if item is None:
            return None
        try:
            return item[0].decode("utf-8-sig")
        except UnicodeDecodeError:
            self.problems.append(problem(name, "is not UTF-8 text"))
            return None

    def load(self) -> TemplateSet:
        settings, shared = self.set_file()
        self.collect_sources()
        actions = tuple(self.actions(shared))
        return TemplateSet(
            root=self.root,
            digest=tree_digest(self.files),
            description=settings.text("description"),
            actions=actions,
            problems=tuple(self.problems),
            sources=self.sources,
            offsets=self.offsets,
            engine=settings.value.get("engine") or {},
            classification=self.classification,
        )

    def set_file(self) -> tuple[actionfile.SideFile, dict[str, Any]]:
        path = f"{self.base}unjucks.yaml"
        side = actionfile.SideFile(path, self.text(path) or "", actionfile.SET_KEYS)
        engine = side.value.get("engine")
        if engine is not None and not isinstance(engine, dict):
            side.add(("engine",), "engine must be a map")
            side.value["engine"] = None
        for key, value in (engine if isinstance(engine, dict) else {}).items():
            if key not in actionfile.ENGINE_KEYS:
                side.add(("engine", key), f"unknown key {key[:60]!r}; known are {', '.join(actionfile.ENGINE_KEYS)}")
            elif key == "undefined" and value not in ("Error", "Empty", "ErrorOnUse"):
                side.add(("engine", key), "undefined must be Error, Empty or ErrorOnUse")
            elif key in ("trimBlocks", "lstripBlocks", "autoescape") and not isinstance(value, bool):
                side.add(("engine", key), f"{key} must be true or false")
        self.classification = actionfile.read_classification(side)
        shared = side.schema() or {}
        if self.options.shared_schema:  # the registry's; the set's own wins over it
            shared, _ = schemas.merge_schemas(shared, self.options.shared_schema)
        self.problems.extend(side.problems)
        return side, shared

    def collect_sources(self) -> None:
        """Every text below the root is something that templates may include, by its path there, without frontmatter."""
        for name, (content, _) in self.below.items():
            if "/_tests/" in f"/{name}":
                continue
            text = decode(content)
            if text is None:
                continue
            parts = split_template(name, text)
            self.sources[name] = parts[1] if parts else text
            self.offsets[name] = parts[2] - 1 if parts else 0

    def actions(self, shared: Mapping[str, Any]) -> Iterator[Action]:
        generators: dict[str, dict[str, list[str]]] = {}
        for name in sorted(self.below, key=str.encode):
            parts = name.split("/")
            if parts[0].startswith("_") or (len(parts) > 1 and parts[1].startswith("_")):
                continue
            if len(parts) == 1:
                self.problems.append(
                    problem(f"{self.root}/{name}", "belongs to no generator and is not used", severity="warning")
                )
            elif len(parts) == 2:
                if parts[1] not in {"generator.yaml", "README.md", *_LEGACY_SIDE_FILES}:
                    self.problems.append(
                        problem(f"{self.root}/{name}", "belongs to no action and is not used", severity="warning")
                    )
                generators.setdefault(parts[0], {})
            else:
                generators.setdefault(parts[0], {}).setdefault(parts[1], []).append(name)
        for generator, actions in sorted(generators.items()):
            meta = self.generator_file(generator)
            if not _NAME.fullmatch(generator):
                self.problems.append(
                    problem(f"{self.root}/{generator}", "is no generator name: use letters, digits, . _ -")
                )
                continue
            for action, names in sorted(actions.items()):
                if not _NAME.fullmatch(action):
                    self.problems.append(
                        problem(f"{self.root}/{generator}/{action}", "is no action name: use letters, digits, . _ -")
                    )
                    continue
                yield self.action(generator, action, names, meta, shared)

    def generator_file(self, generator: str) -> tuple[str | None, list[str]]:
        path = f"{self.root}/{generator}/generator.yaml"
        side = actionfile.SideFile(path, self.text(path) or "", actionfile.GENERATOR_KEYS)
        made = actionfile.read_deprecation(side), side.texts("tags")
        self.problems.extend(side.problems)
        return made

    def action(
        self,
        generator: str,
        action: str,
        names: list[str],
        meta: tuple[str | None, list[str]],
        shared: Mapping[str, Any],
    ) -> Action:
        folder = f"{self.root}/{generator}/{action}"
        path = f"{folder}/action.yaml"
        text = self.text(path)
        declared = actionfile.read_action(path, text) if text is not None else self.legacy(generator, action)
        problems = list(declared.problems)
        files: list[TemplateFile] = []
        for name in names:
            relative = name[len(generator) + len(action) + 2 :]
            if any(part.startswith("_") for part in relative.split("/")) or relative in _SIDE_FILES:
                continue
            if text is None and relative in _LEGACY_SIDE_FILES:
                continue
            try:
                made = self.template(name, relative, declared, path)
            except ParseError as error:
                problems.append(problem(f"{self.root}/{name}", error.message, error.line, error.column))
                continue
            if made is not None:
                files.append(made)
        if not files and not problems:
            problems.append(problem(folder, "the action has no files to generate", severity="warning"))
        ordered = tuple(sorted(files, key=lambda file: self.order(file, declared)))
        schema, is_declared = schemas.merge_schemas(declared.schema, shared)
        loaded = Action(
            generator=generator,
            action=action,
            folder=folder,
            description=declared.description,
            variables=schemas.catalogue_variables(schema),
            schema=schema,
            declared=is_declared,
            inferred=(),
            digest="",
            files=ordered,
            problems=(),
            deprecated=bool(declared.deprecation or meta[0]),
            deprecation=declared.deprecation or meta[0] or "",
            from_base=tuple(declared.from_base),
            tests=tuple(self.tests(f"{generator}/{action}", folder, declared, problems)),
            tags=tuple(dict.fromkeys([*meta[1], *declared.tags])),
            classification=declared.classification or self.classification,
        )
        if is_declared and not any(item.severity == "error" for item in problems):
            problems.extend(schemas.schema_problems(path, schema))
        own = (declared.schema or {}).get("properties", {}).keys() if is_declared else ()
        return inspection.complete(
            loaded, self.files, self.root, self.sources, self.offsets, problems, self.options, own, check=self.check
        )

    @staticmethod
    def order(file: TemplateFile, declared: actionfile.ActionFile) -> tuple[int, bytes]:
        """Files named in action.yaml first, in its order; then path order."""
        first = next((rule.order for rule in declared.rules if matches(file.name, [rule.pattern])), len(declared.rules))
        return first, file.name.encode()

    def template(self, name: str, relative: str, declared: actionfile.ActionFile, side: str) -> TemplateFile | None:
        content, mode = self.below[name]
        path = f"{self.root}/{name}"
        if relative.endswith((".ejs.t", ".ejs")):
            raise ParseError(
                "EJS templates are not rendered; rewrite it as .njk (unjucks migrate shows what to change)"
            )
        conditions = [condition for pattern, condition in declared.exclude if matches(relative, [pattern])]
        if "" in conditions or "true" in conditions:
            return None
        rule = next(
            (rule for rule in declared.rules if rule.front is not None and matches(relative, [rule.pattern])), None
        )
        text = decode(content)
        copied = matches(relative, declared.copy_only)
        is_template = relative.endswith(TEMPLATE_SUFFIXES) and not copied
        if is_template and text is None:
            raise ParseError("a template must be UTF-8 text; list it under copyOnly to copy its bytes")
        parts = split_template(name, text) if text is not None and not copied else None
        asked = matches(relative, declared.render) or any(
            item.render and matches(relative, [item.pattern]) for item in declared.rules
        )
        front, front_path = frontmatter.Frontmatter(), path
        if parts:
            front = frontmatter.parse(parts[0])
        if rule is not None and rule.front is not None:
            if parts:
                raise ParseError(f"has frontmatter and an entry in {side}; keep one", 1, 1)
            front, front_path = rule.front, side
        if conditions:
            joined = " or ".join(f"({condition})" for condition in conditions)
            front = replace(front, condition=f"({front.condition or 'true'}) and not ({joined})")
        rendered = text is not None and (is_template or parts is not None or (asked and not copied))
        return TemplateFile(
            path=path,
            name=relative,
            engine_name=name,
            content=content,
            mode=0o755 if mode & 0o100 else 0o644,
            body=(parts[1] if parts else text) if rendered else None,
            first_line=parts[2] if parts else 1,
            front=front,
            front_path=front_path,
        )

    def legacy(self, generator: str, action: str) -> actionfile.ActionFile:
        """An action without action.yaml: meta.yml inside it or config.yml beside the actions are read when they exist."""
        made = actionfile.ActionFile()
        properties: dict[str, Any] = {}
        required: list[str] = []
        for name in (f"{generator}/{action}/meta", f"{generator}/{action}/config", f"{generator}/config"):
            path = next((p for s in (".yml", ".yaml") if (p := f"{self.root}/{name}{s}") in self.files), None)
            if path is None:
                continue
            side = actionfile.SideFile(path, self.text(path) or "")
            value = side.value
            if name.count("/") == 1:  # beside the actions: one entry for each
                entries = value.get("templates")
                entries = entries if isinstance(entries, list) else []
                value = next((e for e in entries if isinstance(e, dict) and e.get("name") == action), {})
            description = value.get("description")
            if isinstance(description, str) and not made.description:
                made.description = description.strip()
            found, needed = actionfile.schema_from_prompts(value.get("variables", value.get("prompts")))
            properties = found | properties
            required.extend(needed)
            side.add((), "is read for migration only; write action.yaml", "warning")
            made.problems.extend(side.problems)
        if properties:
            # Open: such files never listed every variable.
            made.schema = {
                "type": "object",
                "properties": properties,
                "required": sorted(set(required)),
                "additionalProperties": True,
            }
        return made

    def tests(
        self, name: str, folder: str, declared: actionfile.ActionFile, problems: list[Problem]
    ) -> Iterator[TestCase]:
        prefix = f"{folder}/_tests/"
        cases: dict[str, dict[str, tuple[bytes, int]]] = {}
        for path, item in self.files.items():
            if path.startswith(prefix) and "/" in (rest := path[len(prefix) :]):
                case, _, inner = rest.partition("/")
                cases.setdefault(case, {})[inner] = item
        for case, tree in sorted(cases.items()):
            where = f"{prefix}{case}/variables.yaml"
            side = actionfile.SideFile(where, self.text(where) or "")
            problems.extend(side.problems)
            error = tree.get("error.txt", (b"", 0))[0].decode("utf-8", "replace").strip()
            yield TestCase(case, prefix + case, side.value, _below(tree, "base/"), _below(tree, "expected/"), error)
        for index, entry in enumerate(declared.tests):
            yield TestCase(
                str(entry.get("name", f"tests[{index}]")),
                "",
                entry.get("variables") or {},
                _texts(entry.get("base")),
                _texts(entry.get("expect")),
                str(entry.get("error", "")),
            )


def _below(tree: Tree, prefix: str) -> dict[str, tuple[bytes, int]]:
    return {path[len(prefix) :]: item for path, item in tree.items() if path.startswith(prefix)}


def _texts(value: Any) -> dict[str, tuple[bytes, int]]:
    return {str(key): (str(item).encode(), 0o644) for key, item in (value or {}).items()}


def decode(content: bytes) -> str | None:
    """The text of a file, or None when it is binary (a NUL byte, or no UTF-8)."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def split_template(name: str, text: str) -> tuple[str, str, int] | None:
    """``frontmatter.split`` with care for files without .njk suffix: a YAML file may start with ``---`` too."""
    parts = frontmatter.split(text)
    if parts and not name.endswith(TEMPLATE_SUFFIXES) and not frontmatter.looks_like_frontmatter(parts[0]):
        return None
    return parts
