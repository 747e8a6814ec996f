"""Policies by name: those that ship, and classes from files of one directory, taken anew when a file changes.

"redis" is a class of this package. "canary:ByUser" is the class ByUser in DIR/canary.py, where DIR is what `--policies`
says; names lead nowhere else: not to packages, not to the path of Python, not out of the directory. A file is read and
run by itself, under a name of its own each time, so an old class and its successor live side by side: sessions that run
keep the class they began with.

A file that does not load is said so, and the class that was loaded before stays.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from proxy.ambassadors.guard import Fault, Guard
from proxy.ambassadors.policy import INTERFACE, Policy

_NAME = re.compile(r"([a-z_][a-z0-9_]{0,62}):([A-Za-z_][A-Za-z0-9_]{0,62})")
MAX_FILE_BYTES = 1 << 20

Mark = tuple[int, int, int]
"""Inode, time and size of a file: another one, another content."""


class NoSuchPolicy(Exception):
    """There is no class of that name; the text says why, and what helps."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    module: ModuleType
    mark: Mark


class Catalog:
    """What the names of policies stand for, now."""

    def __init__(self, directory: Path | None, built_in: Mapping[str, Callable[[], type[Policy]]]) -> None:
        """`built_in` imports each when it is first asked for. `directory` is asked for by nothing but names."""
        self._directory = directory
        self._built_in = built_in
        self._modules: dict[str, _Loaded] = {}
        self._failed: dict[str, Mark | None] = {}
        """Files that did not load, as they were then: tried again when they are others."""
        self._count = 0

    def find(self, name: str, guard: Guard) -> type[Policy]:
        """The class of that name; loads its file if that was not done yet. Raises NoSuchPolicy."""
        if name in self._built_in:
            return self._built_in[name]()
        match = _NAME.fullmatch(name)
        if match is None:
            raise NoSuchPolicy(f"{name!r} is no name of a policy")
        module_name, class_name = match.groups()
        loaded = self._modules.get(module_name) or self._load(module_name, guard)
        found = getattr(loaded.module, class_name, None)
        if not (isinstance(found, type) and issubclass(found, Policy)):
            raise NoSuchPolicy(f"{module_name}.py has no class {class_name} that is a Policy")
        if found.interface != INTERFACE:
            raise NoSuchPolicy(
                f"{name} was written for version {found.interface} of the interface; this proxy has {INTERFACE}"
            )
        return found

    def refresh(self, guard: Guard) -> dict[str, str | None]:
        """Looks at the files that were asked for. Module name -> None: another one now; or why it stays as it was."""
        changed: dict[str, str | None] = {}
        for name in {*self._modules, *self._failed}:
            try:
                mark: Mark | None = self._mark(self._path(name))
            except NoSuchPolicy:
                mark = None
            known = self._failed[name] if name in self._failed else self._modules[name].mark
            if mark == known:
                continue
            try:
                self._load(name, guard)
                changed[name] = None
            except NoSuchPolicy as error:
                changed[name] = str(error)
        return changed

    def _path(self, module_name: str) -> Path:
        if self._directory is None:
            raise NoSuchPolicy("the proxy was started without --policies DIR, so it knows the built-in policies only")
        return self._directory / f"{module_name}.py"

    def _mark(self, path: Path) -> Mark:
        try:
            info = path.stat()
        except OSError as error:
            raise NoSuchPolicy(f"cannot read {path}: {error.strerror}") from error
        if not stat.S_ISREG(info.st_mode):
            raise NoSuchPolicy(f"{path} is not a file")
        if info.st_mode & stat.S_IWOTH:
            raise NoSuchPolicy(f"{path} may be written by anybody; allow that to its owner only: chmod o-w {path}")
        if info.st_size > MAX_FILE_BYTES:
            raise NoSuchPolicy(f"{path} has more than {MAX_FILE_BYTES} bytes")
        return info.st_ino, info.st_mtime_ns, info.st_size

    def _load(self, name: str, guard: Guard) -> _Loaded:
        mark: Mark | None = None
        try:
            path = self._path(name)
            mark = self._mark(path)
            self._count += 1
            module = ModuleType(f"podium_policies.{name}_{self._count}")
            module.__file__ = str(path)
            try:
                source = path.read_bytes()
                # dataclasses and others look their module up there.
                sys.modules[module.__name__] = module
                guard.call(f"loading {path.name}", _run, source, path, module)
            except OSError as error:
                raise NoSuchPolicy(f"cannot read {path}: {error.strerror}") from error
            except Fault as error:
                del sys.modules[module.__name__]
                raise NoSuchPolicy(str(error)) from error
        except NoSuchPolicy:
            self._failed[name] = mark
            raise
        self._failed.pop(name, None)
        if (before := self._modules.get(name)) is not None:
            sys.modules.pop(before.module.__name__, None)
        loaded = self._modules[name] = _Loaded(module, mark)
        return loaded


def _run(source: bytes, path: Path, module: ModuleType) -> None:
    exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
