"""One task in a process of its own: ``python -m unjucks_runtime.courier.child KIND``, request on stdin, answer on stdout.

The process is fresh for each task, so credentials and what a hostile server sent end with it. Limits: CPU, memory, files and their
sizes by rlimits, the wall clock by the server, which kills it. It never starts another process.

The answer's first byte says what it is: ``R`` a result, ``F`` an ErrorResponse; the rest is JSON.
Started by ``courier.workers`` only.
"""

import base64
import importlib
import os
import re
import resource
import sys
from collections.abc import Callable, Sequence

import orjson

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import ErrorResponse
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.failures import GenerationError
from unjucks_runtime.renderer import syscalls

Task = Callable[[bytes], bytes]

TASKS = {
    "fetch": ("unjucks_runtime.sources.fetch", "fetch"),
    "inspect": ("unjucks_runtime.outputs.tasks", "inspect"),
    "publish": ("unjucks_runtime.outputs.tasks", "publish"),
}
"""Kind of task to module and function (JSON to JSON). Imported when it is asked for: a fetch does not load what publishes."""

RESULT, FAILURE = b"R", b"F"
_CREDENTIALS = re.compile(rb'"(?:credentials|certificates)":\s*(\{[^{}]*\})')
_LOGINS = re.compile(r'"(?:auth|password|identitytoken)"\s*:\s*"([^"]+)"')
_PUBLIC = frozenset({"username", "accesskey", "known_hosts", "ca.crt", "caFile", "tls.crt"})
_SHORTEST = 6
_MAX_FILE = 256 * 1024 * 1024
_MAX_OPEN = 256


def confine(cpu_seconds: int, memory_bytes: int) -> None:
    """The limits of the process, which nothing can take back. ``memory_bytes``: private memory, on top of what is loaded now."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE, _MAX_FILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN, _MAX_OPEN))


def perform(task: Task, request: bytes) -> bytes:
    """The task's answer with its first byte; whatever goes wrong becomes an ErrorResponse without anything secret in it."""
    try:
        return RESULT + task(request)
    except CourierError as error:
        response = error.response
    except GenerationError as error:  # from the archive's unpacking
        response = ErrorResponse(
            reason=error.reason, message=error.message, path=error.place.path, limit=error.limit[:64]
        )
    except MemoryError:
        response = ErrorResponse(
            reason=Reason.LIMIT_EXCEEDED, message="the task needed more memory than it may have", limit="memory"
        )
    except RecursionError:
        response = ErrorResponse(
            reason=Reason.LIMIT_EXCEEDED, message="what was received is nested too deeply", limit="depth"
        )
    except Exception as error:
        response = ErrorResponse(reason=Reason.INTERNAL_ERROR, message=f"the courier has a defect: {_place(error)}")
    secrets = secrets_of(request)
    shown = {key: masked(getattr(response, key), secrets) for key in ("message", "path")}
    return FAILURE + response.model_copy(update=shown).model_dump_json().encode()


def secrets_of(request: bytes) -> list[str]:
    """What a server could echo of the request's credentials, longest first: a message with its words may not show them to those
    who may read a status and not the Secret."""
    values: dict[str, str] = {}
    for block in _CREDENTIALS.findall(request):
        try:
            told = orjson.loads(block)
        except orjson.JSONDecodeError:
            continue  # braces inside: the protocol has none there
        for key, value in told.items():
            try:
                values[key] = base64.b64decode(value, validate=True).decode()
            except (ValueError, TypeError):
                continue  # not text, so no message can hold it
    texts = [text for key, text in values.items() if key not in _PUBLIC]
    found = {line.strip() for text in texts for line in text.splitlines()}
    found |= {item for text in texts for item in _LOGINS.findall(text)}
    user = values.get("username", "git")
    found |= {base64.b64encode(f"{user}:{text}".encode()).decode() for text in texts}
    return sorted((item for item in found if len(item) >= _SHORTEST), key=len, reverse=True)


def masked(text: str, secrets: Sequence[str]) -> str:
    """The text without any of these."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _place(error: Exception) -> str:
    """Type and place in the code; nothing of the error's text, which may hold what came from the server."""
    trace = error.__traceback__
    where = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "unjucks_runtime" in code.co_filename:
            where = f" at {code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__ + where


def main() -> None:
    """The process. Arguments: kind, CPU seconds, bytes of memory."""
    kind, cpu_seconds, memory_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no part of the answer
    module, function = TASKS[kind]
    task: Task = getattr(importlib.import_module(module), function)
    confine(cpu_seconds, memory_bytes)
    request = sys.stdin.buffer.read()
    answer = memoryview(perform(task, request))
    while answer:
        answer = answer[os.write(answers, answer) :]


if __name__ == "__main__":
    main()
