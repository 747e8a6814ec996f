"""A process that was stopped stands still when `send` returns."""

from __future__ import annotations

import signal
import subprocess
import sys

from cluster.testing.signals import is_still, send

BUSY = (
    "import threading\n"
    "def run():\n"
    "    while True: pass\n"
    "for _ in range(8): threading.Thread(target=run, daemon=True).start()\n"
    "print('on', flush=True)\n"
    "run()\n"
)


def test_all_threads_of_a_stopped_process_stand_still() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        assert not is_still(process.pid)
        for _ in range(20):
            send(process.pid, signal.SIGSTOP)
            assert is_still(process.pid)
            send(process.pid, signal.SIGCONT)
        send(process.pid, signal.SIGKILL)
    assert is_still(process.pid), "what is gone does nothing either"
