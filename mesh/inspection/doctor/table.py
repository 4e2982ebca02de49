"""The table of all checks, in the order in which they are shown.

A check is a name, what must be open for it, and a function that looks. To add one: a function in
the module of its subject, a line here, and a test of a good and of a bad mesh.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

from mesh.inspection.doctor import brokers, definitions, files, processes, topics, work
from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.values import Result

Needs = Literal["nothing", "broker", "log"]

OPEN_BROKER: Final = "broker"
READ_LOG: Final = "log"


class Check(NamedTuple):
    name: str
    needs: Needs
    look: Callable[[Patient], Awaitable[Result]]


CHECKS: Final = (
    Check("broker speed", "broker", brokers.check_speed),
    Check("broker settings", "broker", brokers.check_settings),
    Check("topics", "broker", topics.check_topics),
    Check("rights", "broker", topics.check_rights),
    Check("work", "log", work.check_work),
    Check("lag", "log", work.check_lag),
    Check("notifier", "log", work.check_notifier),
    Check("clocks", "log", processes.check_clocks),
    Check("versions", "log", processes.check_versions),
    Check("agents", "log", processes.check_agents),
    Check("definitions", "log", definitions.check_definitions),
    Check("route files", "log", definitions.check_files),
    Check("checkpoints", "log", files.check_checkpoints),
    Check("disk", "nothing", files.check_disk),
    Check("file rights", "nothing", files.check_rights),
    Check("metrics", "nothing", files.check_metrics),
)
