"""Child processes that do not outlive us, however we end.

Owns what a child asks of the kernel between fork and exec: SIGTERM for itself once its parent is
gone. A parent that gets a signal stops its children in order by itself; this is for `kill -9`,
which no process can handle. Only Linux has this; elsewhere such a child lives on. Called by `mesh
dev` and `mesh demo`.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` for `subprocess`; None if the system does not support this.

    Start the child from a thread that lasts: the kernel takes the end of that thread for the
    parent's.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def tie() -> None:
        # Runs between fork and exec: it must look nothing up and take no lock.
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(128 + signal.SIGTERM)

    return tie


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a mesh in good order.

    A closed terminal's signal is one of them, unless we were started to survive it (`nohup`).
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return tuple(numbers)
