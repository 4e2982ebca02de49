"""What waits in workflows: for operators, for people, for events.

Owns the findings about steps, and what helps an incident of each kind. `retry` is advised where it
can help as things are; where something has to be corrected first, that is said first.
"""

from collections.abc import Sequence
from typing import Final

from mesh.core.pauses import kind_of, name_of, words
from mesh.inspection.mesh_status.spans import span
from mesh.inspection.mesh_status.values import Stuck
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, Awaited, OpenStep, PauseRow

AWAITED_SHOWN: Final = 5  # types of events
_LINE: Final = 100  # characters of a message on the screen

_SAME_AGAIN: Final = frozenset({"expression", "too_deep"})
_FIRST: Final = {
    "unknown_route": "make the called route active (mesh routes apply FILE)",
    "no_agent": "start an agent that has the capability",
    "undeliverable": "mesh topics apply",
    "calendar": "mesh calendars apply FILE",
    "nobody": "give the role to more people (mesh people apply FILE)",
}
_REPAIR: Final = ("agent_died: ", "output_invalid: ", "result_invalid: ", "handover_refused: ", "too_large: ")


def stuck_steps(incidents: Page[OpenStep]) -> list[Stuck]:
    if not incidents:
        return []
    one, count = incidents[0], incidents.total
    message = one.incident_message if len(one.incident_message) <= _LINE else one.incident_message[: _LINE - 1] + "…"
    what = (
        f"{count:,} incident{'s' if count > 1 else ''} wait{'' if count > 1 else 's'} for an "
        f"operator; the oldest: {one.step}: {message}"
    )
    return [Stuck(severity="error", what=what, next_step=what_helps(one))]


def what_helps(one: OpenStep, *, cause: str = "") -> str:
    """What an operator can do about an incident, so that it does not come back as it was.

    `cause`: of several workflows, which are then retried together.
    """
    retry = f"mesh workflows retry --cause {cause}" if cause else f"mesh workflows retry '{one.workflow_id}'"
    migrate = f"correct the route, mesh routes apply FILE, then mesh workflows migrate '{one.workflow_id}' --to active"
    if one.incident_kind in _SAME_AGAIN:
        return f"{migrate}; a retry alone would give the same"
    if one.incident_message.startswith("input_invalid: "):
        return f"{retry} --step {one.step} --input @FILE, with an input that the agent takes; or {migrate}, and retry"
    if one.incident_kind in _FIRST:
        return f"{_FIRST[one.incident_kind]}, then {retry}"
    if one.incident_message.startswith(_REPAIR):
        return (
            f"repair the agent {one.agent} (mesh workflows show '{one.workflow_id}' has the whole "
            f"message), then {retry}"
        )
    if one.incident_kind == "non_retryable":
        return (
            f"remove the cause (mesh workflows show '{one.workflow_id}' has it): as things are, trying "
            f"again would not help; then {retry}"
        )
    return retry


def deadly(steps: Sequence[OpenStep]) -> list[Stuck]:
    """Agents whose processes die over a task, and the tasks."""
    found = []
    for one in steps:
        where = f"mesh workflows show '{one.workflow_id}'"
        what = f"agent {one.agent} dies over the task {one.step} of {one.workflow_id}"
        if one.status == "incident":
            what += ", which is not sent again"
            where = (
                "repair the agent (its processes' last lines say why they died), then mesh workflows "
                f"retry '{one.workflow_id}'"
            )
        found.append(Stuck(severity="error" if one.status == "incident" else "warning", what=what, next_step=where))
    return found


def stuck_iterations(halted: Sequence[OpenStep]) -> list[Stuck]:
    """For-each steps that wait for their incidents alone.

    These are warnings, because the incidents are errors of their own.
    """
    if not halted:
        return []
    one = halted[0]
    more = f", and {len(halted) - 1:,} more like it" if len(halted) > 1 else ""
    what = f"for-each {one.step} waits for its incidents alone{more}: {one.settled:,} of {one.total:,} items are done"
    return [
        Stuck(severity="warning", what=what, next_step=f"mesh workflows skip '{one.workflow_id}' --step {one.step}")
    ]


def paused(count: int, since_ms: int, workflow_id: str, now_ms: int) -> list[Stuck]:
    """Workflows that an operator holds. `workflow_id`: the one that has been held longest."""
    if not count:
        return []
    what = f"{count:,} workflows are paused, the oldest" if count > 1 else f"{workflow_id} is paused"
    resume = f"mesh workflows resume '{workflow_id}'" if count == 1 else "mesh workflows --status paused"
    return [Stuck(severity="warning", what=f"{what} for {span(now_ms - since_ms)}", next_step=resume)]


def paused_targets(rows: Sequence[PauseRow], partitions: int, now_ms: int) -> list[Stuck]:
    """Agents and routes that an operator holds."""
    found = []
    for row in rows:
        pause, kind = row.pause, kind_of(row.target)
        # a command that is on its way, or a router of an earlier version, which refuses it
        part = "" if row.partitions >= partitions else f" in {row.partitions} of {partitions} partitions"
        why = f": {pause.reason}" if pause.reason else ""
        what = f"{words(row.target)} is paused{part} by {pause.by} for {span(now_ms - pause.at_ms)}{why}"
        found.append(Stuck(severity="warning", what=what, next_step=f"mesh {kind}s resume {name_of(row.target)}"))
    return found


def waiting_for_events(awaited: Sequence[Awaited], now_ms: int) -> list[Stuck]:
    found = []
    for one in awaited[:AWAITED_SHOWN]:
        who = f"{one.step} waits" if one.count == 1 else f"{one.count:,} steps wait, the oldest"
        untimed = one.count - one.timed
        forever = (
            "" if not untimed else "without a time-out" if one.count == untimed else f"{untimed:,} without a time-out"
        )
        what = f"{who} {span(now_ms - one.since_ms)} for event {one.type}" + (f", {forever}" if forever else "")
        found.append(Stuck(severity="warning", what=what, next_step=f"mesh workflows show '{one.workflow_id}'"))
    others = awaited[AWAITED_SHOWN:]
    if others:
        count = sum(one.count for one in others)
        steps = "step waits" if count == 1 else "steps wait"
        kinds = "type" if len(others) == 1 else "types"
        what = f"{count:,} more {steps} for events of {len(others):,} other {kinds}"
        found.append(Stuck(severity="warning", what=what, next_step="mesh workflows --status running"))
    return found


def waiting_people(approvals: Page[ApprovalRow], now_ms: int) -> list[Stuck]:
    if not approvals:
        return []
    oldest = approvals[0]
    waits = "approval waits" if approvals.total == 1 else f"{approvals.total:,} approvals wait, the oldest"
    what = f"{waits} {span(now_ms - oldest.asked_at_ms)} for role {oldest.role}"
    return [Stuck(severity="warning", what=what, next_step="mesh approvals")]
