"""The filter for system calls of restricted pods, made by libseccomp, the library that container engines use for it.

A list of what is denied: what gives a process another view of the machine (mounts, namespaces), a look into others, or
a way into the kernel that programs of a cluster have no use for. Denied calls fail with EPERM; clone3, whose flags a
filter cannot see, fails with ENOSYS, and the C library falls back to clone.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache

DENIED = (
    *("mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "unshare", "setns", "chroot", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "process_madvise", "pidfd_getfd"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "syslog"),
    *("keyctl", "add_key", "request_key", "open_by_handle_at", "name_to_handle_at", "lookup_dcookie"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm", "vhangup", "personality"),
)
"""Those that a machine does not have are left out."""
NEW_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""Flags of clone(2) that make a namespace."""
TIOCSTI = 0x5412
"""The ioctl that types into a terminal: into that of whoever is attached."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MASKED_EQUAL = 7


class NoFilter(Exception):
    """There is no libseccomp here, or it does not work."""


class _Compare(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@cache
def make_filter() -> bytes:
    """The filter as the kernel takes it: instructions of 8 bytes. Raises NoFilter."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NoFilter("libseccomp is not installed (Debian: apt-get install libseccomp2)") from error
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not context:
        raise NoFilter("libseccomp makes no filters on this machine")
    try:
        for name in DENIED:
            _deny(library, context, name, errno.EPERM)
        for flag in NEW_NAMESPACES:
            _deny(library, context, "clone", errno.EPERM, _Compare(0, _MASKED_EQUAL, flag, flag))
        _deny(library, context, "clone3", errno.ENOSYS)
        _deny(library, context, "ioctl", errno.EPERM, _Compare(1, _MASKED_EQUAL, 0xFFFFFFFF, TIOCSTI))
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _deny(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, number: int, *conditions: _Compare) -> None:
    call = library.seccomp_syscall_resolve_name(name.encode())
    if call < 0:
        return  # another kind of machine
    array = (_Compare * len(conditions))(*conditions)
    action = ctypes.c_uint32(_ERRNO | number)
    if library.seccomp_rule_add_array(context, action, call, len(conditions), array) != 0:
        raise NoFilter(f"libseccomp takes no rule for {name}")


def _exported(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        if library.seccomp_export_bpf(context, fd) != 0:
            raise NoFilter("libseccomp does not give its filter away")
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
