"""A process in namespaces of its own, with an /etc of its own, in which somebody replaces resolv.conf while another
process has the node's mounted there. Prints what is found, step by step, as JSON.

    python shared_names_scene.py DIRECTORY
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
from pathlib import Path

from node_agent.confine import own_namespaces
from node_agent.mounts import MS_BIND, mount
from node_agent.shared_names import RESOLV_CONF, SharedNames

WAIT_MS = 10_000


def read() -> str:
    return Path(RESOLV_CONF).read_text().strip()


def main(directory: Path) -> None:
    etc, node = directory / "etc", directory / "node.conf"
    etc.mkdir()
    node.write_text("the node's\n")
    (etc / "resolv.conf").write_text("the machine's\n")
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", etc / name)
    own_namespaces()
    mount(str(etc), "/etc", None, MS_BIND)
    asked, told = os.pipe()
    said, heard = os.pipe()
    pid = os.fork()
    if pid == 0:
        names = SharedNames(str(node))
        own_namespaces()
        names.mount()
        poller = select.epoll()
        poller.register(names.watch_fd, select.EPOLLPRI)
        poller.poll(0)
        found: dict[str, object] = {"mounted": read(), "quiet": poller.poll(0.05)}
        try:
            Path(RESOLV_CONF).write_text("x")
        except OSError as error:
            found["written"] = error.strerror
        os.write(heard, b"1")
        os.read(asked, 1)
        found["woken"] = bool(poller.poll(WAIT_MS / 1000))
        found["gone"] = read()
        names.keep()
        found["again"] = read()
        names.keep()
        node.write_text("the node's, changed\n")
        found["changed"] = read()
        os.write(heard, b"2")
        os.read(asked, 1)
        found["absent"] = os.path.exists(RESOLV_CONF)
        names.keep()
        print(json.dumps(found))
        sys.exit(0)
    os.read(said, 1)
    found_outside = read()
    (etc / "new").write_text("the machine's, replaced\n")
    os.rename("/etc/new", "/etc/resolv.conf")
    os.write(told, b"1")
    os.read(said, 1)
    os.unlink("/etc/resolv.conf")
    os.write(told, b"2")
    _, status = os.waitpid(pid, 0)
    assert (found_outside, status) == ("the machine's", 0)


main(Path(sys.argv[1]))
