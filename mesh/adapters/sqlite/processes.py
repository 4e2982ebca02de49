"""Who a process is, so that another one on the same machine can tell that it has died.

A pid alone is reused; pid and start time are not, as long as the machine and the pid namespace
(containers!) are the same. Where the system has no /proc (macOS) a member's lease alone decides.
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
    """`start` is in the kernel's ticks since boot, empty where unknown; `machine` names one boot
    and one pid namespace.
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
    """Whether it has surely ended. False where that can't be known from here."""
    if not process.start or not process.machine or process.machine != _machine():
        return False
    stat = _stat(process.pid)
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
