"""The guestbook's frontend: shows the entries, lets people add one, and says which pod and node served the page.

    GET  /          the page                     POST /      a form with name and text; back to the page
    GET  /api       {"pod": "frontend-x2x4z", "node": "node-1", "entries": [{"id": 1, "name": "Ada", "text": "Hi"}]}
    POST /api       {"name": "Ada", "text": "Hi"}   201 and {"pod": ..., "node": ..., "entry": {...}}
    GET  /healthz   200

It keeps nothing itself: the backend does, and is found by the name of its service in the environment. Standard library
only. Listens on $POD_IP:$PORT; SIGTERM lets requests finish and ends it with exit code 0.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
import threading
from collections.abc import Callable
from html import escape
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

MAX_BODY_BYTES = 16 * 1024
BACKEND_TIMEOUT_S = 5
POD = os.environ.get("POD_NAME", "?")
NODE = os.environ.get("NODE_NAME", "?")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Guestbook</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:2em auto;padding:0 1em}}
footer{{color:#666;border-top:1px solid #ccc;margin-top:2em}}input{{font:inherit}}</style></head>
<body><h1>Guestbook</h1>
<form method="post" action="/"><input name="name" placeholder="Your name" maxlength="80">
<input name="text" placeholder="Your words" maxlength="1000" required size="30"> <button>Sign</button></form>
{entries}
<footer>Served by pod <b>{pod}</b> on node <b>{node}</b>. Reload, and another one may answer.</footer>
</body></html>
"""


class Problem(Exception):
    """What the client is told instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def ask_backend(method: str, content: object = None) -> dict[str, object]:
    """Asks the backend for /entries. Raises Problem if it does not answer, or refuses."""
    host, port = os.environ["BACKEND_SERVICE_HOST"], int(os.environ["BACKEND_SERVICE_PORT"])
    connection = HTTPConnection(host, port, timeout=BACKEND_TIMEOUT_S)
    try:
        connection.request(method, "/entries", None if content is None else json.dumps(content))
        response = connection.getresponse()
        answer: dict[str, object] = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise Problem(502, f"the backend at {host}:{port} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise Problem(response.status, str(answer.get("error", "refused")))
    return answer


class Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds that a client may take

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(200, "ok\n", "text/plain")
        elif self.path == "/api":
            self.guarded(lambda: self.answer_json(200, entries=ask_backend("GET")["entries"]))
        elif self.path == "/":
            self.page()
        else:
            self.answer_json(404, error="no such page")

    def do_POST(self) -> None:
        if self.path == "/api":
            self.guarded(lambda: self.answer_json(201, entry=ask_backend("POST", self.posted_json())))
        elif self.path == "/":
            self.guarded(self.sign)
        else:
            self.answer_json(404, error="no such page")

    def page(self) -> None:
        status = 200
        try:
            found = ask_backend("GET")["entries"]
            assert isinstance(found, list)
            shown = "\n".join(
                f"<p><b>{escape(str(entry['name']))}</b>: {escape(str(entry['text']))}</p>" for entry in reversed(found)
            )
        except Problem as problem:
            status, shown = problem.status, f"<p>{escape(str(problem))}</p>"
        body = PAGE.format(entries=shown or "<p>Nobody has signed yet.</p>", pod=escape(POD), node=escape(NODE))
        self.answer(status, body, "text/html; charset=utf-8")

    def sign(self) -> None:
        form = parse_qs(self.body().decode("utf-8", "replace"))
        ask_backend("POST", {"name": form.get("name", [""])[0], "text": form.get("text", [""])[0]})
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def guarded(self, handle: Callable[[], None]) -> None:
        try:
            handle()
        except Problem as problem:
            self.answer_json(problem.status, error=str(problem))

    def posted_json(self) -> object:
        try:
            return json.loads(self.body())
        except (ValueError, RecursionError) as error:
            raise Problem(400, f"not JSON: {error}") from error

    def body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise Problem(413, f"a body has a Content-Length of at most {MAX_BODY_BYTES}")
        return self.rfile.read(int(length))

    def answer_json(self, status: int, **content: object) -> None:
        self.answer(status, json.dumps({"pod": POD, "node": NODE, **content}) + "\n", "application/json")

    def answer(self, status: int, text: str, content_type: str) -> None:
        body = text.encode("utf-8", "replace")  # an entry may hold half a surrogate pair
        self.send_response(status)
        self.send_header("Content-Type", content_type)
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
    if "BACKEND_SERVICE_HOST" not in os.environ:
        # Started again a moment later, with the services that exist then.
        sys.exit("there is no service named backend: apply backend.yaml")
    server = Server((os.environ.get("POD_IP", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Handler)
    # shutdown() waits for serve_forever(), which runs in this thread: another one has to call it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {server.server_name}:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
