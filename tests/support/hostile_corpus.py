"""A corpus of attacks by those who write templates, jobs and archives, over the classes that scaffolding tools fell for. Pure data.

Each case says what an operator may make of it: it fails with one of these reasons, or gives exactly these files, or ends in any
typed way; and whatever comes out shows nothing of the host. Sources that are fetched have a corpus of their own beside the courier.
Called by the operator's integration test.
"""

import base64
import gzip
import os
import struct
import tarfile
from dataclasses import dataclass, field
from typing import Any

from support import hostile_templates
from support.archives import Member, member, packed, tar
from unjucks_api.reasons import Reason

EVIL_PATHS = (
    "../x", "a/../../x", "./../x", "/etc/passwd", "//server/x", "C:/x", "c:x", "a\\b", "..\\x", "a/./b", "a//b", ".git/config",
    ".GIT/config", "a/.git/hooks/pre-commit", ".g\u200cit/config", "git~1/config", ".git::$INDEX_ALLOCATION/x", "a\nb", "a\x1bb",
    "a\u202eb", "a\x7fb", "con", "aux.txt", "COM1", "a/nul/b", "x.", "a /b", "a/ b", "x" * 256, "a/" * 600 + "b", "a\u2028b",
    "\ufeff../x", "\uff0e\uff0e/x", "~/.ssh/id_rsa", "$HOME/x", "%2e%2e/x", "a\u0000b",
)  # fmt: skip
PATH_REFUSALS = frozenset({Reason.PATH_REJECTED, Reason.VARIABLES_INVALID, Reason.INVALID_SPEC})
PLAIN_NAMES = frozenset({"~/.ssh/id_rsa", "$HOME/x", "%2e%2e/x"})
"""Nobody expands them here: as a file name they only hold a separator that a variable may not add; as a path they are harmless."""
TEMPLATE_REFUSALS = frozenset(
    {
        Reason.TEMPLATE_ERROR,
        Reason.UNDEFINED_VARIABLE,
        Reason.TEMPLATES_INVALID,
        Reason.LIMIT_EXCEEDED,
        Reason.OUTPUT_TOO_LARGE,
    }
)
ARCHIVE_REFUSALS = frozenset({Reason.ARCHIVE_INVALID, Reason.ARCHIVE_TOO_LARGE, Reason.PATH_REJECTED})
SET_REFUSALS = frozenset({Reason.TEMPLATES_INVALID, Reason.NO_TEMPLATES, Reason.LIMIT_EXCEEDED, Reason.PATH_REJECTED})


@dataclass(frozen=True)
class JobCase:
    """One run. ``files``: the templates of its action, by name below the action's folder."""

    name: str
    files: dict[str, str]
    variables: dict[str, Any] = field(default_factory=dict)
    reasons: frozenset[Reason] = frozenset()
    """With which it may fail; empty: it must succeed."""
    gives: dict[str, str] | None = None
    """The files that come out when it succeeds; None: whatever, as long as it shows nothing."""
    may_succeed: bool = False


@dataclass(frozen=True)
class SetCase:
    """A whole source: an archive, or files. It must be refused with one of the reasons."""

    name: str
    reasons: frozenset[Reason]
    archive: bytes = b""
    files: dict[str, str] = field(default_factory=dict)


def job_cases() -> list[JobCase]:
    """Everything that runs."""
    return [*_templates(), *_paths(), *_fronts(), *_variables()]


def _templates() -> list[JobCase]:
    """Every fifth calm template of the engine's own corpus, and every third bomb."""
    # Those that ask for other files are tried where these files are.
    every = [case for case in hostile_templates.all_cases() if ".njk" not in case[1] and len(case[1]) < 60_000]
    calm = [case for case in every if "bomb" not in case[0]][::5]
    bombs = [case for case in every if "bomb" in case[0]][::3]
    found = []
    for number, (kind, template, outcome) in enumerate([*calm, *bombs]):
        name, files = f"template-{number}: {kind}", {"out.txt.njk": template}
        context = hostile_templates.CONTEXT
        if outcome == "nothing":
            found.append(JobCase(name, files, context, gives={"out.txt": ""}))
        elif outcome.startswith("="):
            found.append(JobCase(name, files, context, gives={"out.txt": outcome[1:]}))
        elif outcome.startswith("limit:"):
            found.append(JobCase(name, files, context, frozenset({Reason.LIMIT_EXCEEDED})))
        else:
            found.append(JobCase(name, files, context, TEMPLATE_REFUSALS, may_succeed=outcome == "harmless"))
    return found


def _paths() -> list[JobCase]:
    found = []
    for number, path in enumerate(EVIL_PATHS):
        plain = path in PLAIN_NAMES
        found += [
            JobCase(f"path-{number} in a file name: {path[:30]!r}", {"{{ p }}.njk": "x"}, {"p": path}, PATH_REFUSALS),
            JobCase(
                f"path-{number} declared as a path: {path[:30]!r}",
                {"action.yaml": "variables: {p: {type: path}}\n", "a.njk": '---\nto: "{{ p }}"\n---\nx'},
                {"p": path},
                PATH_REFUSALS,
                may_succeed=plain,
            ),
        ]
    wanders = ("../../../../etc/passwd", "/etc/passwd", "./../../../x", "file:///etc/passwd", "gen/a/../../../x")
    for number, source in enumerate(wanders):
        refusals = frozenset(
            {Reason.PATH_REJECTED, Reason.TEMPLATE_NOT_FOUND, Reason.TEMPLATES_INVALID, Reason.TEMPLATE_ERROR}
        )
        found += [
            JobCase(f"from-{number}", {"a.njk": f'---\nto: a\nfrom: "{source}"\n---\n'}, reasons=refusals),
            JobCase(f"include-{number}", {"a.njk": f'{{% include "{source}" %}}'}, reasons=refusals),
            JobCase(f"include-of-data-{number}", {"a.njk": "{% include p %}"}, {"p": source}, refusals),
        ]
    return found


_FRONTS = {
    "sh": "---\nto: a\nsh: touch /tmp/owned\n---\nx",
    "inject outside": '---\nto: "../x"\ninject: true\nafter: x\n---\nx',
    "loop over all": "---\nto: '{{ i }}'\nforEach: {item: i, in: range(90000)}\n---\n",
    "loop of loops": '---\nto: "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"\n---\n',
    "mode with setuid": "---\nto: a\nchmod: '4777'\n---\nx",
    "anchor that backtracks": '---\nto: a\ninject: true\nafter: "/(a|aa|a*)*$x/"\n---\ny\n',
    "a tag of Python": "---\nto: !!python/object/apply:os.system [id]\n---\nx",
    "aliases": "---\nto: &a [*a]\n---\nx",
    "the same key twice": "---\nto: a\nto: ../b\n---\nx",
    "a number as a name": "---\nto: 7\n---\nx",
    "deep": "---\nto: " + "[" * 400 + "]" * 400 + "\n---\nx",
    "two files, one name": "---\nto: b.txt\n---\nx",
}


def _fronts() -> list[JobCase]:
    refusals = TEMPLATE_REFUSALS | PATH_REFUSALS | {
        Reason.ANCHOR_NOT_FOUND, Reason.OUTPUT_COLLISION, Reason.SOURCE_NOT_FOUND, Reason.CONFLICT,
    }  # fmt: skip
    harmless = {"mode with setuid", "a number as a name"}
    return [
        JobCase(f"front: {name}", {"a.njk": text, "b.txt.njk": "y"}, reasons=refusals, may_succeed=name in harmless)
        for name, text in _FRONTS.items()
    ]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _variables() -> list[JobCase]:
    dump = {"o.txt.njk": "{{ v | dump }}"}
    text = {"o.txt.njk": "{{ v }}"}
    schema = "variables: {v: {type: string, pattern: '^(([a-z])+.)+[A-Z]([a-z])+$'}}\n"
    return [
        JobCase("variable: template text", text, {"v": "{{ 7 * 7 }}"}, gives={"o.txt": "{{ 7 * 7 }}"}),
        JobCase("variable: a tag", text, {"v": "{% include 'x' %}"}, gives={"o.txt": "{% include 'x' %}"}),
        JobCase("variable: prototype", dump, {"v": {"__proto__": {"z": 1}}}, gives={"o.txt": '{"__proto__":{"z":1}}'}),
        JobCase("variable: keywords", {"o.txt.njk": "{{ [2, 1] | sort(v) }}"}, {"v": {"__keywords": True}}, gives={"o.txt": "2,1"}),
        JobCase("variable: deep", dump, {"v": _nested(120)}, frozenset({Reason.VARIABLES_INVALID, Reason.LIMIT_EXCEEDED})),
        JobCase("variable: wide", dump, {"v": [0] * 60_000}, frozenset({Reason.VARIABLES_INVALID, Reason.LIMIT_EXCEEDED})),
        JobCase(
            "variable: a pattern that backtracks",
            {"action.yaml": schema} | text,
            {"v": "a" * 5000 + "!"},
            frozenset({Reason.VARIABLES_INVALID}),
        ),
        JobCase(
            "variable: another kind",
            {"action.yaml": "variables: {v: {type: integer}}\n"} | text,
            {"v": {"toString": "x"}},
            frozenset({Reason.VARIABLES_INVALID}),
        ),
        JobCase(
            "variable: unknown",
            {"action.yaml": "variables: {v: {type: string, default: d}}\nadditionalVariables: false\n"} | text,
            {"w": 1},
            frozenset({Reason.VARIABLES_INVALID, Reason.TEMPLATES_INVALID}),
            may_succeed=True,
        ),
        JobCase(
            "variable: a name of the host",
            {"o.txt.njk": "{{ __builtins__ }}{{ self }}"},
            {"__builtins__": 1, "self": 2},
            gives={"o.txt": "12"},
        ),
        JobCase("variable: a huge number", text, {"v": 1e300}, frozenset({Reason.VARIABLES_INVALID}), may_succeed=True),
        JobCase("variable: a lone surrogate", text, {"v": "\\ud800"}, gives={"o.txt": "\\ud800"}),
    ]  # fmt: skip


# --- whole sources -----------------------------------------------------------------------------------------------------------
GOOD = {"_templates/g/a/x.txt.njk": "x"}


def _good() -> Member:
    return member("_templates/g/a/x.txt.njk", b"x")


def _sparse() -> Member:
    info, content = member("s", b"1\n0\n5\nhello")
    info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "999999999", "GNU.sparse.name": "s",
    }  # fmt: skip
    return info, content


def _renamed(path: str) -> Member:
    """A harmless header, and an extension that says otherwise."""
    info, content = member("_templates/g/a/y.txt.njk")
    info.pax_headers = {"path": path}
    return info, content


def _overlong() -> Member:
    info, content = member("a")
    info.pax_headers = {"comment": "x" * 5_000_000}
    return info, content


def set_cases() -> list[SetCase]:
    """Archives and template sets that must not be served."""
    links = {
        "symbolic link": member("l", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        "link inside": member("l", kind=tarfile.SYMTYPE, link="_templates"),
        "dangling link": member("l", kind=tarfile.SYMTYPE, link="nowhere"),
        "link to the folder above": member("_templates/g/b", kind=tarfile.SYMTYPE, link="../../.."),
        "hard link": member("l", kind=tarfile.LNKTYPE, link="_templates/g/a/x.txt.njk"),
        "hard link outside": member("l", kind=tarfile.LNKTYPE, link="../../etc/shadow"),
        "pipe": member("p", kind=tarfile.FIFOTYPE),
        "character device": member("d", kind=tarfile.CHRTYPE),
        "block device": member("d", kind=tarfile.BLKTYPE),
        "the same file twice": member("_templates/g/a/x.txt.njk", b"y"),
        "the same file with a dot": member("./_templates/g/a/x.txt.njk", b"y"),
        "the same file in capitals": member("_TEMPLATES/g/a/x.txt.njk", b"y"),
        "the same name in another form": member("_templates/g/a/\u212a.txt"),
        "a file as a folder": member("_templates/g/a/x.txt.njk/y"),
        "sparse": _sparse(),
        "renamed by an extension": _renamed("../../x"),
        "renamed to .git": _renamed(".git/hooks/post-checkout"),
        "an overlong extension": _overlong(),
        "a folder above": member("../up/", kind=tarfile.DIRTYPE),
    }
    cases = [
        SetCase(f"archive: {name}", ARCHIVE_REFUSALS, packed(_good(), bad))
        for name, bad in links.items()
        if name != "the same name in another form"
    ]
    twice = (member("_templates/g/a/k.txt"), member("_templates/g/a/\u212a.txt"))
    cases.append(SetCase("archive: the same name in another form", ARCHIVE_REFUSALS, packed(_good(), *twice)))
    archive_paths = [path for path in EVIL_PATHS if path not in PLAIN_NAMES and "\0" not in path and path[-1:] != "/"]
    for number, path in enumerate(archive_paths):
        cases.append(SetCase(f"archive path-{number}: {path[:30]!r}", ARCHIVE_REFUSALS, packed(_good(), member(path))))
    raw = tar(_good(), member("b", b"y" * 3000))
    whole = gzip.compress(raw, mtime=0)
    damaged = bytearray(raw)
    damaged[1024 + 150] ^= 0xFF
    promise, _ = member("a", b"x" * 50_000)
    cases += [
        SetCase("archive: a gzip bomb", ARCHIVE_REFUSALS, gzip.compress(bytes(300_000_000), mtime=0)),
        SetCase("archive: a bomb of one file", ARCHIVE_REFUSALS, packed(member("a", bytes(60_000_000)))),
        SetCase("archive: a bomb of many files", ARCHIVE_REFUSALS, packed(*(member(f"f{it}") for it in range(20_000)))),
        SetCase("archive: deep", ARCHIVE_REFUSALS, packed(member("d/" * 200 + "x"))),
        SetCase("archive: cut in the middle", ARCHIVE_REFUSALS, whole[: len(whole) // 2]),
        SetCase("archive: cut at the end", ARCHIVE_REFUSALS, whole[:-9]),
        SetCase("archive: a cut tar in a whole gzip", ARCHIVE_REFUSALS, gzip.compress(raw[:1536], mtime=0)),
        SetCase("archive: a wrong checksum of gzip", ARCHIVE_REFUSALS, whole[:-8] + struct.pack("<I", 7) + whole[-4:]),
        SetCase("archive: a wrong checksum of a header", ARCHIVE_REFUSALS, gzip.compress(bytes(damaged), mtime=0)),
        SetCase("archive: a promise of more", ARCHIVE_REFUSALS, gzip.compress(promise.tobuf() + b"x" * 600, mtime=0)),
        SetCase("archive: noise", ARCHIVE_REFUSALS, b"hello"),
        SetCase("archive: random bytes", ARCHIVE_REFUSALS, os.urandom(4096)),
        SetCase("archive: gzip of gzip", ARCHIVE_REFUSALS, gzip.compress(whole, mtime=0)),
        SetCase("archive: a zip", ARCHIVE_REFUSALS, b"PK\x03\x04" + bytes(100)),
    ]
    actions = {
        "aliases of themselves": "a: &a [*a]",
        "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + it)}: &{chr(98 + it)} [{','.join(['*' + chr(97 + it)] * 9)}]\n" for it in range(9)),
        "deep": "[" * 1000,
        "a tag of Python": "variables: !!python/object/apply:os.system [id]",
        "a schema from elsewhere": "variables: {a: {$ref: 'https://198.51.100.7/schema.json'}}",
        "a schema of a file": "variables: {a: {$ref: 'file:///etc/passwd'}}",
        "the same key twice": "description: a\ndescription: b\n",
        "an unknown key": "hooks: {post: 'touch /tmp/owned'}",
        "no mapping": "- a\n- b\n",
        "a directive": "%YAML 9.9\n---\n",
        "a variable that is no name": "variables: {'a b; import os': {type: string}}",
        "a type that is none": "variables: {a: {type: function}}",
        "a pattern that is none": "variables: {a: {type: string, pattern: '('}}",
        "a default that does not fit": "variables: {a: {type: integer, default: x}}",
    }  # fmt: skip
    cases += [
        SetCase(f"action.yaml: {name}", SET_REFUSALS, files=GOOD | {"_templates/g/a/action.yaml": text})
        for name, text in actions.items()
    ]
    cases.append(SetCase("a template that does not parse", SET_REFUSALS, files={"_templates/g/a/x.njk": "{% if %}"}))
    cases.append(SetCase("no templates at all", SET_REFUSALS, files={"README.md": "x"}))
    return cases


def config_map_of(case: SetCase) -> dict[str, Any]:
    """``data`` or ``binaryData`` of the ConfigMap that holds the source."""
    if case.archive:
        return {"binaryData": {"templates.tgz": base64.b64encode(case.archive).decode()}}
    return {"data": {path.replace("/", "__"): text for path, text in case.files.items()}}
