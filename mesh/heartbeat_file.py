"""The heartbeat file: its time says that a service's event loop runs, its text whether it is ready.

Owns the text. A service that has started writes it, and touches the file; `mesh health` reads both.
The text is one line: `ready`, or `waits: ` and for what.
"""

from pathlib import Path
from typing import Final, NamedTuple

_READY: Final = "ready"
_WAITS: Final = "waits: "


class Readiness(NamedTuple):
    """`waits_for`: why it is not ready; empty if it is."""

    is_ready: bool
    waits_for: str


def write_heartbeat(path: Path, waits_for: str) -> None:
    """Say so, in one step: a reader meanwhile sees the old text or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(f"{_WAITS}{' '.join(waits_for.split())}\n" if waits_for else f"{_READY}\n")
    fresh.replace(path)


def read_readiness(path: Path) -> Readiness:
    """What the file says. Raises `OSError` if it is not there."""
    text = path.read_text().strip()
    if text == _READY:
        return Readiness(is_ready=True, waits_for="")
    if text.startswith(_WAITS):
        return Readiness(is_ready=False, waits_for=text.removeprefix(_WAITS))
    return Readiness(is_ready=False, waits_for="the service does not say, as it is of an older version")
