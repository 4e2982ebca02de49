"""The machine's own clock and randomness, for every process that is not a simulation.

Owns `SystemClock` and `SystemEntropy`. Used by `mesh.wiring`; a simulation brings
`mesh.testing.virtual_time.loop` instead.
"""

import secrets
import time


class SystemClock:
    """Wall time, as `mesh.ports.Clock`."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemEntropy:
    """The operating system's randomness, as `mesh.ports.Entropy`."""

    __slots__ = ()

    def token(self) -> str:
        return secrets.token_hex(16)
