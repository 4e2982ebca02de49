"""Who a process is, so that another one on the same machine can tell that it has died.

Owns what names a process. `groups` and `subscription` call it. A pid alone is reused. A pid with
its start time is not, as long as the machine and the pid namespace (containers!) are the same. On a
system without /proc (macOS), a member's lease alone decides.
"""

from functools import cache
from os import getpid
from pathlib import Path
from typing import Final

import msgspec

# fields of /proc/PID/stat after the command's name: state and start time (proc_pid_stat(5))
_STATE, _START = 0, 19
_GONE: Final = frozenset("ZXx")


class Process(msgspec.Struct, frozen=True):
    """A process that others can recognise.

    `start` is in the kernel's ticks since boot, and empty if it is unknown. `machine` names one
    boot and one pid namespace.
    """

    pid: int
    start: str
    machine: str


def this_process() -> Process:
    # Not cached: a fork must not inherit it.
    pid = getpid()
    stat = _stat(pid)
    return Process(pid, stat[_START] if stat else "", _machine())


def is_dead(process: Process) -> bool:
    """Whether the process has certainly ended. False if that can't be known from here."""
    if not process.start or not process.machine or process.machine != _machine():
        return False
    stat = _stat(process.pid)
    # another start time: the pid has been given to another process
    return stat is None or stat[_STATE] in _GONE or stat[_START] != process.start


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the command's name may hold blanks and parentheses


@cache
def _machine() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
