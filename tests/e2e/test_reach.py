"""Getting at pods: logs by time, terminals, attaching, forwarded ports, copies, pods without a manifest, restarts."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from cluster.testing import Cluster
from tests.e2e.foreground import Foreground
from tests.e2e.workloads import pod, web

LIMIT_S = 20.0


def environment(cluster: Cluster, **variables: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
    return clean | {"PODIUM_HOME": str(cluster.home), "PODIUM_CLUSTER": cluster.name} | variables


class Terminal:
    """A `podium` command on a terminal of its own."""

    def __init__(self, cluster: Cluster, *arguments: str, **variables: str) -> None:
        ours, theirs = pty.openpty()
        self._fd = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.cli.main", *arguments],
            env=environment(cluster, **variables),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def expect(self, pattern: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern!r} did not come; it said {self.text!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self._fd, 4096).decode(errors="replace")
                except OSError:
                    break
        assert re.search(pattern, self.text), self.text

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self._process.pid, signal.SIGWINCH)

    def end(self) -> int:
        code = self._process.wait(LIMIT_S)
        os.close(self._fd)
        return code


def test_logs_by_time(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("talk", "echo early; sleep 1.5; echo late; sleep 1000"), namespace)
    shared_cluster.wait_until(
        lambda: "late" in shared_cluster.podium("logs", "talk", "-n", namespace, check=False).stdout, "both are said"
    )
    logs = ("logs", "talk", "-n", namespace)
    stamped = shared_cluster.podium(*logs, "--timestamps").stdout.splitlines()
    times = [re.fullmatch(r"\d{4}-\d\d-\d\dT(\d\d):(\d\d):(\d\d\.\d\d)Z (early|late)", line) for line in stamped]
    assert [match.group(4) for match in times if match] == ["early", "late"]
    assert shared_cluster.podium(*logs, "--since", "1h").stdout == "early\nlate\n"
    time.sleep(max(0.0, 1.0))  # "late" is a second old now, and "early" more than two
    assert shared_cluster.podium(*logs, "--since", "2.2s").stdout in ("late\n", "")
    assert shared_cluster.podium(*logs, "--limit-bytes", "3").stdout == "ear"


def test_a_shell_on_a_terminal(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("shell", "sleep 1000"), namespace)
    shared_cluster.wait("pod/shell", namespace)
    terminal = Terminal(shared_cluster, "exec", "-it", "-n", namespace, "shell", "--", "sh")
    terminal.expect(r"[$#] ")
    terminal.type("stty size; tty; echo $((6 * 7))$POD_NAME\r")
    terminal.expect("/dev/pts/\\d+")
    terminal.expect("42shell")
    terminal.type("sleep 1000\r")
    time.sleep(0.3)
    terminal.type("\x03")  # Ctrl-C goes to the command, not to us
    terminal.type("exit 9\r")
    assert terminal.end() == 9


def test_the_size_of_a_terminal_is_passed_on(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("sized", "sleep 1000"), namespace)
    shared_cluster.wait("pod/sized", namespace)
    watch = "trap 'stty size' WINCH; echo ready; while [ ! -e done-$0 ]; do sleep 0.05; done"
    for options in ("-it", "-t"):
        terminal = Terminal(
            shared_cluster, "exec", options, "-n", namespace, "sized", "--", "bash", "-c", watch, options
        )
        terminal.expect("ready")
        terminal.resize(33, 77)
        terminal.expect("33 77")
        shared_cluster.exec("sized", ["touch", f"done-{options}"], namespace)
        assert terminal.end() == 0


def test_prefixes_tell_apart_who_wrote(shared_cluster: Cluster, namespace: str) -> None:
    manifest = pod("pair", "echo one; sleep 1000")
    manifest += "\n  - {name: second, command: [sh, -c, 'echo two; sleep 1000']}\n"
    shared_cluster.apply(manifest, namespace)
    shared_cluster.wait("pod/pair", namespace)
    logs = ("logs", "pair", "-n", namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.podium(*logs).stdout == "[pair/main] one\n[pair/second] two\n", "both have written"
    )
    assert shared_cluster.podium(*logs, "-c", "second").stdout == "two\n"
    assert shared_cluster.podium(*logs, "--no-prefix").stdout == "one\ntwo\n"
    coloured = Terminal(shared_cluster, *logs)
    coloured.expect(r"\x1b\[31m\[pair/main\]\x1b\[0m one")
    plain = Terminal(shared_cluster, *logs, NO_COLOR="1")
    plain.expect(r"^\[pair/main\] one")
    assert (coloured.end(), plain.end()) == (0, 0)


def test_attach_types_to_the_program_itself(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(
        pod(
            "echo",
            "while read -r line; do echo got $line; done; exit 4",
            extra="stdin: true\n            stdinOnce: true",
        ),
        namespace,
    )
    shared_cluster.wait("pod/echo", namespace)
    attached = shared_cluster.podium("attach", "-i", "echo", "-n", namespace, stdin="one\ntwo\n", check=False)
    assert (attached.stdout, attached.returncode) == ("got one\ngot two\n", 4)


def test_forwarded_ports(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(web("site", 2), namespace)
    shared_cluster.wait("rc/site", namespace, ready=2)
    arguments = ("--cluster", shared_cluster.name, "port-forward", "svc/site", ":8080", "-n", namespace)
    with Foreground(shared_cluster.home, *arguments) as forward:
        forward.wait_for("Forwarding from")
        found = re.search(r"127\.0\.0\.1:(\d+) -> (site-\w+):8080", forward.text)
        assert found is not None
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", int(found.group(1))), timeout=LIMIT_S) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                connection.settimeout(LIMIT_S)
                answer = b""
                while data := connection.recv(4096):
                    answer += data
            assert answer.endswith(found.group(2).encode())
        os.kill(forward.pid, signal.SIGINT)


def test_copies(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    shared_cluster.apply(pod("files", "sleep 1000"), namespace)
    shared_cluster.wait("pod/files", namespace)
    conf = tmp_path / "conf"
    (conf / "deep").mkdir(parents=True)
    (conf / "deep" / "a").write_bytes(bytes(range(256)) * 1000)
    space = ("-n", namespace)
    shared_cluster.podium("cp", str(conf), "files:copied", *space)
    shared_cluster.podium("cp", "files:copied", str(tmp_path / "back"), *space)
    assert (tmp_path / "back" / "deep" / "a").read_bytes() == (conf / "deep" / "a").read_bytes()
    shared_cluster.podium("cp", "files:copied/deep/a", str(tmp_path), *space)
    assert (tmp_path / "a").stat().st_size == 256_000
    refused = shared_cluster.podium("cp", "files:nothing", str(tmp_path), *space, check=False)
    assert refused.returncode != 0
    assert "No such file" in refused.stderr


def test_pods_without_a_manifest_and_anew(shared_cluster: Cluster, namespace: str) -> None:
    space = ("-n", namespace)
    shared_cluster.podium(
        "run", *space, "--restart", "Never", "--env", "A=b", "job", "--", "sh", "-c", "echo $A; exit 3"
    )
    shared_cluster.wait_until(lambda: shared_cluster.get("pod", "job", namespace).status.phase == "Failed", "it ends")
    assert shared_cluster.podium("logs", "job", *space).stdout == "b\n"
    described = shared_cluster.podium("describe", "pod/job", *space).stdout
    assert "exit code 3" in described
    shared_cluster.podium("run", *space, "--replicas", "2", "--wait", "many", "--", "sleep", "1000")
    before = {found.metadata.uid for found in shared_cluster.pods("run=many", namespace)}
    said = shared_cluster.podium("restart", "rc/many", *space).stdout
    assert "replaced (2 of 2)" in said
    after = {found.metadata.uid for found in shared_cluster.pods("run=many", namespace)}
    assert len(after) == 2
    assert not before & after


def test_a_log_is_followed_over_restarts(shared_cluster: Cluster, namespace: str) -> None:
    script = "echo run; while ! test -e go; do sleep 0.05; done; test -e twice && exit 0; touch twice; exit 1"
    shared_cluster.apply(pod("again", script, restart="OnFailure"), namespace)
    shared_cluster.wait("pod/again", namespace)
    arguments = ("--cluster", shared_cluster.name, "logs", "-f", "again", "-n", namespace)
    with Foreground(shared_cluster.home, *arguments) as followed:
        followed.wait_for("run")  # it is there for the first run: only now may that end
        shared_cluster.exec("again", ["touch", "go"], namespace)
        assert followed.wait() == 0, "it ends when there will be no further run"
        assert followed.text == "run\nrun\n"


def test_staying_with_a_pod_that_goes_afterwards(shared_cluster: Cluster, namespace: str) -> None:
    words = ["run", "calc", "-n", namespace, "-i", "--rm", "--restart", "Never", "--"]
    stayed = shared_cluster.podium(*words, "sh", "-c", "read a; echo got $a; exit 7", stdin="hello\n", check=False)
    assert (stayed.stdout, stayed.returncode) == ("got hello\n", 7)
    quick = shared_cluster.podium("run", "quick", "-n", namespace, "--rm", "--restart", "Never", "--", "echo", "done")
    assert quick.stdout == "done\n"
    shared_cluster.wait_until(lambda: not shared_cluster.list("pod", namespace), "both are gone")
    refused = shared_cluster.podium("run", "x", "-it", "--replicas", "2", "--", "sh", check=False)
    assert "without --replicas" in refused.stderr


def test_what_pods_use(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("busy", "while :; do :; done"), namespace)
    shared_cluster.apply(pod("lazy", "sleep 1000 & sleep 1000"), namespace)
    for name in ("busy", "lazy"):
        shared_cluster.wait(f"pod/{name}", namespace)

    def used() -> list[list[str]]:
        said = shared_cluster.podium("top", "pods", "-n", namespace).stdout
        return [line.split() for line in said.splitlines()]

    # How much of the machine is left for the busy one is not ours to say.
    shared_cluster.wait_until(lambda: used()[2][3] == "3", "both programs of the lazy one run")
    head, busy, lazy = used()
    assert head == ["NAME", "CPU(cores)", "MEMORY(bytes)", "PROCESSES"]
    assert (busy[0], lazy[0]) == ("busy", "lazy")
    assert int(busy[1].removesuffix("m")) > int(lazy[1].removesuffix("m"))
    nodes = shared_cluster.podium("top", "nodes").stdout.splitlines()
    assert [line.split()[0] for line in nodes] == ["NAME", "node-1", "node-2", "node-3"]
