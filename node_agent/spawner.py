"""The spawner: a small process that owns the pods' processes, one per node, and outlives the node agent.

Why it is apart from the agent: the agent holds gRPC and an event loop, and is neither a good parent (forking it is slow
and risky) nor a lean one; and it may crash, be killed and be upgraded while pods run on. The spawner does one thing at
a time, knows nothing of pods or clusters, and imports next to nothing. It starts programs, pumps their output into log
files, reaps every child, kills whole trees, and remembers how each run ended until an agent has noted it:

    agent -> spawner                                        spawner -> agent
    {"op": "start", "id", "argv", "env", "cwd", "log",      {"event": "started", "id", "pid", "ticks", "at", "mono"}
            "confinement", "stdin", "tty"}                  {"event": "failed", "id", "code", "message"}
    {"op": "start", ..., "fds": 3, "parent"}                {"event": "survivors", "id", "pids"}: they do not die
    {"op": "signal", "id", "signal"}                        {"event": "exited", "id", "code", "signal", "at", "mono",
    {"op": "kill", "id"}                                             "tail", "usage", "lost"}
    {"op": "stdin", "id", "data"}, {"op": "stdin_close"}    {"event": "written", "id"}: the input was taken
    {"op": "resize", "id", "rows", "columns"}               {"event": "hello", "protocol", "pid", "boot", "runs",
    {"op": "forget", "id"}, {"op": "end"}                            "confinement"}, then {"event": "run", ...} for each
                                                            {"event": "busy", "pid"}: another agent is on the line

"at" is in seconds since 1970, for people; "mono" is the same moment on the monotonic clock, which nobody sets. A start
that carries three descriptors runs with them as its standard input, output and error instead of a log: that is a
command, and it ends with its agent. If it has a parent it runs in that run's control groups, ends with it, and is of no
interest when nobody holds it any more. Without one it is a run like all others, with control groups and records of its
own.

The life of a run: started -> (leader ends, or kill) -> sweep -> exited -> forgotten. When the leader ends, for whatever
reason, what is left of its tree is killed before the end is reported, as the end of a container's first process ends
the container. "exited" is sent once nothing of it is left.

    spawner_line      how messages travel                    spawner_loop       hears all of them, reaps, and does it
    spawner_records   what outlives this process             spawner_starter    starting, and what is being prepared
    spawner_runs      a run                                  spawner_streams    output into logs, input
    left_behind       what an earlier one left               spawner_sweep      ending trees, and who belongs to one

This file is the process: what it takes at its start, and what it does to itself before it serves.

Everything is killed at once and the spawner exits when it is told to ("end", or SIGTERM), and when its lifeline ends:
the agent, if there is one, is given some time first to end its pods with grace. Without a lifeline (lifetime
"service") the death of all others changes nothing. What a spawner that was killed left behind is ended by the next one,
and reported as lost.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys

from node_agent import process_tree as tree
from node_agent import spawner_line as lines
from node_agent import spawner_sweep
from node_agent.launch import confined
from node_agent.left_behind import end_left_behind
from node_agent.shared_names import SharedNames
from node_agent.spawner_loop import Spawner
from node_agent.spawner_records import Records

LOCK, WHO = "spawner.lock", "spawner.json"
"""Held by the spawner of a node while it lives; and who it is: {"pid", "ticks", "boot"}."""
TRUSTED_DIRECTORY = "trusted"
"""In a node's directory: that of a second spawner, for trusted pods (`node_agent.runtime.trusting`)."""
SHOWN = ("pods", "data", "memory")
"""What of the node's directory its pods may see; the last one may be a link to where it lies."""
RESOLV_CONF = "resolv.conf"
"""In a node's directory, if it is there: what all its pods find at /etc/resolv.conf."""
_PR_SET_CHILD_SUBREAPER = 36


def boot_id() -> str:
    """Names this run of the machine: pids and start times of another one mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def become_subreaper() -> bool:
    """From now on, this process adopts its orphaned descendants. False where the kernel does not know how."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def take_node(directory: str) -> int:
    """The node's directory, opened, for this spawner alone. Raises BlockingIOError if another one has it."""
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held, with the descriptor, until this process ends
    return directory_fd


def main(argv: list[str]) -> int:
    """python -m node_agent.spawner DIRECTORY HIDDEN LOG_MAX_BYTES LOG_FILES LIFELINE_FD PATIENCE_S

    HIDDEN is the directory that programs are not to see, but for the node's pods/, data/ and memory; "" is none.
    """
    directory, hidden, log_max_bytes, log_files, lifeline, patience_s = argv
    try:
        directory_fd = take_node(directory)
    except BlockingIOError:
        return 3
    if int(lifeline) >= 0:
        os.set_inheritable(int(lifeline), False)
    become_subreaper()
    records = Records(directory_fd)
    who = os.open(WHO, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    me = {"pid": os.getpid(), "ticks": tree.start_ticks_of(os.getpid()), "boot": boot_id()}
    os.write(who, json.dumps(me).encode())
    os.close(who)
    left = end_left_behind(records, boot_id(), spawner_sweep.LIMIT_S)
    line = lines.Line(lines.listen(directory_fd))
    shown = [os.path.realpath(os.path.join(directory, name)) for name in SHOWN]
    shown = [path for path in shown if os.path.isdir(path)]
    file = os.path.join(os.path.realpath(directory), RESOLV_CONF)
    names = SharedNames(file) if os.path.isfile(file) else None
    launcher, confinement = confined(os.path.realpath(hidden), shown, names) if hidden else (None, {})
    Spawner(
        line,
        records,
        boot=boot_id(),
        left=left,
        launcher=launcher,
        confinement=confinement,
        names=names,
        log_max_bytes=int(log_max_bytes),
        log_files=int(log_files),
        lifeline=int(lifeline),
        patience_s=float(patience_s),
    ).serve()
    os.unlink(lines.SOCKET, dir_fd=directory_fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
