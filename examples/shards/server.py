"""A shard of a key-value store, in memory: GET /KEY gives a value, PUT /KEY keeps one.

Each answer says which pod gave it. Standard library only. Listens on $POD_IP:$PORT; SIGTERM ends it.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_KEYS, MAX_BYTES = 10_000, 64 * 1024

values: dict[str, bytes] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds that a client may take

    def do_GET(self) -> None:
        found = values.get(self.path)
        self.answer(404 if found is None else 200, found or b"")

    def do_PUT(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 <= size <= MAX_BYTES or (len(values) >= MAX_KEYS and self.path not in values):
            self.close_connection = True
            self.answer(413, b"")
            return
        values[self.path] = self.rfile.read(size)
        self.answer(200, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pod", os.environ.get("HOSTNAME", ""))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the DNS for a name that nobody needs
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server((os.environ.get("POD_IP", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
