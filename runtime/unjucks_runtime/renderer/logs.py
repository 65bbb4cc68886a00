"""JSON lines on stderr: one object for each event, with fields and never with variables, file contents or template text.

Fields come in ``extra={"fields": {...}}``. Called once by ``__main__``.
"""

import logging
import sys
import time
from typing import Any

import orjson

_MAX_TEXT = 2000


class JsonFormatter(logging.Formatter):
    """One line of JSON for a record; control characters are escaped, so nobody can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def configure(level: str) -> None:
    """Send all logs of the process to stderr as JSON lines, from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
