"""Times, counts and payloads as a terminal shows them: `mesh.inspection.wording.plain` has them.

The console shows them alike. Everything that prints for people imports them from here.
"""

from mesh.inspection.wording.plain import (
    ago,
    clock_time,
    counted,
    duration,
    one_line,
    printable,
    readable,
    rfc3339_or_none,
    until,
)

__all__ = [
    "ago",
    "clock_time",
    "counted",
    "duration",
    "one_line",
    "printable",
    "readable",
    "rfc3339_or_none",
    "until",
]
