"""The machine's own clock and randomness, for every process that is not a simulation.

Owns `SystemClock` and `SystemEntropy`. Used by `mesh.wiring`; a simulation brings
`mesh.testing.virtual_time.loop` instead.
"""

import secrets
import time
from pathlib import Path
from typing import Final

from mesh.core.clock import Sighting

_UPTIME: Final = Path("/proc/uptime")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Wall time, as `mesh.ports.Clock`."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def sight() -> Sighting | None:
    """Read the clocks of this machine at once; None where it has none that counts while it sleeps.

    `/proc/uptime`, and not the clock of the same name: a process's clocks may be shifted.
    """
    try:
        uptime_s = float(_UPTIME.read_text().split()[0])
        boot = _BOOT.read_text().strip()
    except (OSError, ValueError, IndexError):
        return None
    return Sighting(boot=boot, uptime_ms=int(uptime_s * 1_000), at_ms=time.time_ns() // 1_000_000)


class SystemEntropy:
    """The operating system's randomness, as `mesh.ports.Entropy`."""

    __slots__ = ()

    def token(self) -> str:
        return secrets.token_hex(16)
