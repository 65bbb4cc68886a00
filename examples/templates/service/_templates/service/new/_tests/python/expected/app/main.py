"""The HTTP server of order-service: health, metrics, and a place for your own routes."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REQUESTS: dict[str, int] = {}


def answer(path: str) -> tuple[int, str]:
    """Status and text for a path."""
    REQUESTS[path] = REQUESTS.get(path, 0) + 1
    if path == "/healthz":
        return 200, "ok\n"
    if path == "/metrics":
        lines = [f'order_service_requests_total{{path="{key}"}} {value}' for key, value in sorted(REQUESTS.items())]
        return 200, "\n".join(lines) + "\n"
    return 404, "not found\n"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, text = answer(self.path)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    port = int(os.environ.get("PORT", "8080"))
    ThreadingHTTPServer(("", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
