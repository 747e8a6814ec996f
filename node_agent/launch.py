"""Starting one program: finding its file, and everything between the decision and its first instruction.

What a shell does when a command is typed: look the name up in PATH, go to the directory, put the descriptors into
place, execute; and say what stands in the way, with the exit codes that a shell uses. The spawner loads this file:
standard library only.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import resource
import signal
import termios

from node_agent.cgroup_files import enter, enter_parents
from node_agent.confine import CLOSED, NotConfined, confine_child, confine_self, needs_fork
from node_agent.restrict import above, close_off, scope_signals

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from node_agent.shared_names import SharedNames

_ALL_SIGNALS = [number for number in range(1, 32) if number not in (signal.SIGKILL, signal.SIGSTOP)]


class Refused(Exception):
    """A program that cannot be started: the exit code a shell would give, and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Scores:
    """This process' place in the order in which the kernel kills when memory is used up (proc(5), oom_score_adj)."""

    def __init__(self) -> None:
        self._fd, self._own = -1, b"0"

    def open(self) -> None:
        """Once this process is not dumpable any more, only what is open already can be written."""
        try:
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own = os.read(self._fd, 16)
        except OSError:
            pass  # then all that it starts have its own, whatever that is

    def become(self, score: int | None) -> None:
        """Takes this place, as far as that is allowed; None: its own."""
        if self._fd < 0:
            self.open()
        try:
            os.pwrite(self._fd, self._own if score is None else str(score).encode(), 0)
        except OSError:
            pass  # only root may have itself killed later than it would be


_scores = _Scores()


class Launcher:
    """Launches from a thread of its own, which is confined a little further than the process.

    Landlock's domains are per thread, nest, and are inherited: what this thread starts can signal only its like, and so
    not the spawner, which is the same user. And where `hidden` cannot be covered, it is closed, but for `shown`. The
    process waits while it launches, so there is never more than one busy.
    """

    def __init__(self, hidden: str = "", shown: Iterable[str] = ()) -> None:
        self.problem = ""
        """Why `hidden` could not be closed."""
        self._hidden, self._shown, self._above = hidden, tuple(shown), above(hidden) if hidden else []
        self._wanted, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._done.acquire()
        self._arguments: tuple[Any, ...] = ()
        self._result: tuple[int, int] | BaseException = (0, -1)
        self._begin()

    def __call__(self, *arguments: Any) -> tuple[int, int]:
        """As `launch`."""
        if self._looks_of_above() != self._looks:
            earlier = self._wanted
            self._begin()
            earlier.release()
        self._arguments = arguments
        self._wanted.release()
        self._done.acquire()
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def _begin(self) -> None:
        """A fresh thread. What is closed is closed to all that is new in the directories above, too: the next one
        knows it."""
        self._looks, self._wanted = self._looks_of_above(), _thread.allocate_lock()
        self._wanted.acquire()
        _thread.start_new_thread(self._serve, (self._wanted,))
        self._done.acquire()

    def _looks_of_above(self) -> list[int]:
        """Something else if anything was added there, or taken away."""
        return [os.stat(directory).st_mtime_ns for directory in self._above]

    def _serve(self, wanted: _thread.LockType) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))  # they are the main thread's
        try:
            scope_signals()
        except OSError:
            pass  # what the kernel lacks for it, the process has said of itself already (`confine_self`)
        try:
            if self._hidden:
                close_off(self._hidden, self._shown)
        except OSError as error:
            self.problem = str(error.strerror)
        while True:
            self._done.release()
            wanted.acquire()
            if wanted is not self._wanted:
                return  # another thread has taken over
            try:
                self._result = launch(*self._arguments)
            except BaseException as error:
                self._result = error


def confined(hidden: str, shown: Iterable[str], names: SharedNames | None = None) -> tuple[Launcher, dict[str, Any]]:
    """Confines this process (`confine_self`), and what cannot be done to all of it to the thread that launches.

    Returns that one, and what was done: "hidden" may also be "closed", which is less.
    """
    _scores.open()
    said = confine_self(hidden, shown, names)
    if said["hidden"]:
        return Launcher(), said
    launcher = Launcher(hidden, shown)
    if launcher.problem:
        said["missing"].append(f"pods can read the cluster's keys: {launcher.problem}")
        return launcher, said
    said["hidden"] = CLOSED
    said["missing"].append(
        "the directory of clusters is not covered, but closed by Landlock: in the directories above it pods can make"
        " nothing, nor open what is made there after their start; and they can read the secrets of other nodes' pods"
    )
    return launcher, said


def find_program(name: str, path: str, cwd: str) -> str:
    """The file to execute, as a shell would find it. Raises Refused: 127 not found, 126 not executable."""
    if "/" in name:
        file = os.path.join(cwd, name)
        if not os.path.exists(file):
            raise Refused(127, f'exec: "{file}": no such file or directory')
        if os.path.isdir(file) or not os.access(file, os.X_OK):
            raise Refused(126, f'exec: "{file}": permission denied (it is not an executable file)')
        return file
    refused = ""
    for directory in path.split(os.pathsep):
        file = os.path.join(cwd, directory, name)
        if os.path.isfile(file):
            if os.access(file, os.X_OK):
                return file
            refused = refused or file
    if refused:
        raise Refused(126, f'exec: "{refused}": permission denied (it is not an executable file)')
    raise Refused(127, f'exec: "{name}": executable file not found in PATH={path}')


def launch(
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    fds: tuple[int, int, int],
    confinement: dict[str, Any] | None = None,
    tty: bool = False,
) -> tuple[int, int]:
    """Starts a program in a session of its own, confined (`node_agent.confine`). Raises Refused.

    Returns its pid and a descriptor. A program that prepares itself says there what stands in its way (`refusal`); when
    that ends in silence it runs. It may take for ever, if a file system that it needs does not answer: nobody waits for
    it here. -1: it runs already.

    Descriptors below 0 mean /dev/null; if `tty`, the first one is a terminal, and becomes the program's own.
    """
    if not argv:
        raise Refused(127, "no command is given")
    score = confinement["oom_score_adj"] if confinement else None
    # It is inherited, too: so nothing that the program starts is without.
    if score is not None:
        _scores.become(score)
    try:
        if confinement and needs_fork(confinement):
            return _launch_confined(argv, env, cwd, fds, confinement, tty)
        return _launch_within(confinement["cgroups"] if confinement else (), argv, env, cwd, fds, tty), -1
    finally:
        if score is not None:
            _scores.become(None)


def _launch_within(
    groups: Iterable[str], argv: list[str], env: dict[str, str], cwd: str, fds: tuple[int, int, int], tty: bool
) -> int:
    """This process goes into the groups and comes back: so the program is born in them, and nothing that it ever starts
    is outside. Moving oneself costs some 50 us per group; the memory that one holds stays where it is."""
    pid = 0
    try:
        try:
            enter(groups)
        except OSError as error:
            raise Refused(128, f"cannot enter its control groups: {error}") from None
        pid = _launch_plain(argv, env, cwd, fds, tty)
    finally:
        _come_back(groups, pid)
    return pid


def refusal(said: bytes) -> Refused:
    """What a program said that could not be prepared."""
    code, _, message = said.decode(errors="replace").partition(" ")
    return Refused(int(code), message)


def _come_back(groups: Iterable[str], pid: int) -> None:
    """Leaves the groups. Raises Refused if that cannot be: a program that shares its groups with the spawner could not
    be ended without it, so what was just started is ended at once."""
    try:
        enter_parents(groups)
    except OSError as error:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise Refused(128, f"the spawner cannot leave the program's control groups: {error}") from None


def _launch_plain(argv: list[str], env: dict[str, str], cwd: str, fds: tuple[int, int, int], tty: bool) -> int:
    """By posix_spawn: no fork, and what is to be done in between is said beforehand."""
    actions: list[Any] = []
    for number, fd in enumerate(fds):
        if tty and number == 0:
            # To the leader of a session that has none, a terminal that it opens becomes its own.
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.ttyname(fd), os.O_RDWR, 0))
        elif fd < 0:
            actions.append((os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDONLY if number == 0 else os.O_WRONLY, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    try:
        os.chdir(cwd)  # posix_spawn has no argument for it; nobody else in this process uses the working directory
    except OSError as error:
        raise Refused(126, f'chdir to working directory "{cwd}": {error.strerror}') from None
    try:
        file = find_program(argv[0], env.get("PATH", os.defpath), cwd)
        try:
            return os.posix_spawn(
                file, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_ALL_SIGNALS
            )
        except FileNotFoundError:
            raise Refused(127, f'exec: "{file}": the interpreter named in its first line does not exist') from None
        except (OSError, ValueError) as error:
            raise Refused(126, f'exec: "{file}": {getattr(error, "strerror", "") or error}') from None
    finally:
        os.chdir("/")


def _launch_confined(
    argv: list[str], env: dict[str, str], cwd: str, fds: tuple[int, int, int], confinement: dict[str, Any], tty: bool
) -> tuple[int, int]:
    """The same by fork and exec, for what has to be done in between, in Python, which a child of vfork must not run.
    This process is small: a fork costs a millisecond. Its other thread waits for this one (`Launcher`), and so holds no
    lock that the child, in which it is not, could wait for."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        refused = "128 it could not be prepared"
        try:
            try:
                enter(confinement["cgroups"])
            except OSError as error:
                raise Refused(128, f"cannot enter its control groups: {error}") from None
            _become(fds, tty)
            # It may stay here for long: nobody is to wait for a descriptor that it holds.
            os.closerange(3, writer)
            os.closerange(writer + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            confine_child(confinement, cwd)
            try:
                os.chdir(cwd)
            except OSError as error:
                raise Refused(126, f'chdir to working directory "{cwd}": {error.strerror}') from None
            file = find_program(argv[0], env.get("PATH", os.defpath), cwd)
            os.execve(file, argv, env)
        except Refused as error:
            refused = f"{error.code} {error.message}"
        except NotConfined as error:
            refused = f"128 cannot be confined as asked: {error}"
        except FileNotFoundError:
            refused = f'127 exec: "{argv[0]}": the interpreter named in its first line does not exist'
        except (OSError, ValueError) as error:
            refused = f'126 exec: "{argv[0]}": {getattr(error, "strerror", "") or error}'
        finally:
            os.write(writer, refused.encode())
            os._exit(126)
    os.close(writer)
    os.set_blocking(reader, False)
    return pid, reader


def _become(fds: tuple[int, int, int], tty: bool) -> None:
    """In the child: a session, descriptors and signals of its own."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _ALL_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # In two steps, since a source may sit on another one's destination.
    null = os.open(os.devnull, os.O_RDWR)
    above = [fcntl.fcntl(fd if fd >= 0 else null, fcntl.F_DUPFD_CLOEXEC, 10) for fd in fds]
    for number, fd in enumerate(above):
        os.dup2(fd, number, inheritable=True)
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
