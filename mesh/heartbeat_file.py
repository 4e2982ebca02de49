"""The heartbeat file: its time says that a service's event loop runs, its text whether it is ready.

Owns the text. A service that has started writes it, and touches the file; `mesh health` reads both.
The first line is `ready`, or `waits: ` and for what. The second names the process that wrote it:

    process: 7 81345        its id, and when it began, in the machine's ticks

A file may outlive its process, as on a container's volume, and the successor may have the same id.
So `is_of_a_live_process` compares both.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

_READY: Final = "ready"
_WAITS: Final = "waits: "
_PROCESS: Final = "process: "
_BEGAN_AT: Final = 19  # of the fields behind the name in /proc/PID/stat: proc(5), starttime


class Heartbeat(NamedTuple):
    """`waits_for`: why it is not ready; empty if it is. `process`: empty in an older version's."""

    is_ready: bool
    waits_for: str
    process: str = ""

    @property
    def is_of_a_live_process(self) -> bool:
        """Whether the process that wrote it runs, as far as it can be seen from here.

        Only a process of the same container or machine can be seen.
        """
        return not self.process or self.process == process_of(int(self.process.split()[0]))


def process_of(pid: int) -> str:
    """What tells a process from an earlier one with its id; empty: there is none.

    Where the system has no /proc it is the id alone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self/stat").exists() or not _is_there(pid) else f"{pid}"
    return f"{pid} {fields[_BEGAN_AT]}"


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except OSError:
        return False
    return True


def beat(path: Path, waits_for: str) -> None:
    """Touch the file, and write it where it does not say this.

    On a full disk a file that says so already can still be touched.
    """
    text = _text(waits_for)
    if not path.exists() or path.read_text() != text:
        # in one step: a reader meanwhile sees the old text or the new one
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        fresh.replace(path)
    path.touch()


def remove_heartbeat(path: Path, *, of_others: bool) -> None:
    """Remove our own file. `of_others`: also another's, as a predecessor has left."""
    if of_others or (path.exists() and _parse(path.read_text()).process == process_of(os.getpid())):
        path.unlink(missing_ok=True)


def read_heartbeat(path: Path) -> Heartbeat:
    """What the file says. Raises `OSError` if it is not there."""
    return _parse(path.read_text())


def _text(waits_for: str) -> str:
    said = f"{_WAITS}{' '.join(waits_for.split())}" if waits_for else _READY
    return f"{said}\n{_PROCESS}{process_of(os.getpid())}\n"


def _parse(text: str) -> Heartbeat:
    said, _, process = text.strip().partition("\n")
    process = process.removeprefix(_PROCESS)
    if said == _READY:
        return Heartbeat(is_ready=True, waits_for="", process=process)
    if said.startswith(_WAITS):
        return Heartbeat(is_ready=False, waits_for=said.removeprefix(_WAITS), process=process)
    return Heartbeat(is_ready=False, waits_for="the service does not say, as it is of an older version")
