"""A shard: repeats each line, and says which pod has heard it."""

import os
import socketserver


class Shard(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(f"{os.environ['HOSTNAME']} heard {line.decode(errors='replace')}".encode())


socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer((os.environ["POD_IP"], 7000), Shard).serve_forever()
