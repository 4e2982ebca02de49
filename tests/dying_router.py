"""`mesh` with an input that kills its reader, in the middle of ingress.

It does `kill -9` on itself at each event whose id says so. For tests: `python tests/dying_router.py
router`.
"""

import os
import signal
from typing import Any

from mesh.cli import main
from mesh.codec.cloudevents import from_record as honest
from mesh.ports import Record
from mesh.services.router import copies


def from_record(record: Record) -> dict[str, Any]:
    """Read the event, unless it is a deadly one."""
    event = honest(record)
    if event["id"].startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return event


if __name__ == "__main__":
    vars(copies)["from_record"] = from_record
    main()
