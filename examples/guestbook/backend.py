"""The guestbook's backend: keeps the last entries in memory and hands them out as JSON.

    GET  /entries   {"entries": [{"id": 1, "name": "Ada", "text": "Hello"}, ...]}   oldest first
    POST /entries   {"name": "Ada", "text": "Hello"}   201 and the entry
    GET  /healthz   200

Standard library only. Listens on $POD_IP:$PORT; SIGTERM lets requests finish and ends it with exit code 0.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_ENTRIES = 1000
MAX_BODY_BYTES = 16 * 1024
MAX_NAME, MAX_TEXT = 80, 1000

entries: deque[dict[str, object]] = deque(maxlen=MAX_ENTRIES)
lock = threading.Lock()
last_id = 0


class Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds that a client may take

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(200, {"status": "ok"})
        elif self.path == "/entries":
            with lock:
                found = list(entries)
            self.answer(200, {"entries": found})
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        global last_id
        if self.path != "/entries":
            self.answer(404, {"error": "no such page"})
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= MAX_BODY_BYTES:
                raise ValueError(f"a body has at most {MAX_BODY_BYTES} bytes")
            posted = json.loads(self.rfile.read(length))
            if not isinstance(posted, dict) or not str(posted.get("text", "")).strip():
                raise ValueError('an entry is like {"name": "Ada", "text": "Hello"}, and has a text')
        except (ValueError, RecursionError) as error:
            self.answer(400, {"error": str(error)})
            return
        name, text = str(posted.get("name", "")).strip(), str(posted["text"]).strip()
        with lock:
            last_id += 1
            entry = {"id": last_id, "name": name[:MAX_NAME] or "anonymous", "text": text[:MAX_TEXT]}
            entries.append(entry)
        self.answer(201, entry)

    def answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        if self.path != "/healthz":  # probes come every second
            print(self.command, self.path, code, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for requests that are being answered
    request_queue_size = 128

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the DNS for a name that nobody needs
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def main() -> None:
    server = Server((os.environ.get("POD_IP", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Handler)
    # shutdown() waits for serve_forever(), which runs in this thread: another one has to call it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {server.server_name}:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
