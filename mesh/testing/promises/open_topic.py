"""Judges `mesh.approvals.open`: it holds exactly the approvals that the log has open.

Owns this part of what `mesh.testing.promises.judge` checks, and keeps the topic as a reader does.
"""

from collections.abc import Iterable

from mesh.codec.open_approvals import (
    OpenStanding,
    decode_open_payload,
    decode_open_request,
    decode_open_standing,
    log_offset,
    open_key,
    open_partition,
)
from mesh.codec.times import rfc3339
from mesh.core.approvals import Asking
from mesh.core.open_approvals import PAYLOAD, REQUEST, STANDING, note_part
from mesh.core.state import StepState, Workflow
from mesh.ports import Record

_Held = dict[tuple[str, str], bytes]  # by approval and part


class OpenTopic:
    """The topic as a reader has it. Compaction may have dropped what was replaced."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, bytes | None]] = {}
        self._astray: list[str] = []

    def take(self, record: Record) -> None:
        part, approval_id = open_key(record)
        if record.partition != open_partition(approval_id):
            self._astray.append(f"{part}/{approval_id} is in partition {record.partition} of {record.topic}")
        at, before = log_offset(record), self._kept.get((approval_id, part))
        # what was decided earlier comes from an owner that was cut off
        if before is None or at >= before[0]:
            self._kept[approval_id, part] = (at, record.value)

    def held(self) -> _Held:
        return {key: value for key, (_, value) in self._kept.items() if value is not None}

    def findings(self, workflows: Iterable[Workflow]) -> list[str]:
        """How the topic differs from the log."""
        return [*self._astray, *differences(self.held(), workflows)]


def differences(held: _Held, workflows: Iterable[Workflow]) -> list[str]:
    """How the parts that a reader holds differ from the approvals that are open."""
    asking = {step.task_id: step for one in workflows for step in one.steps.values() if step.status == "asking"}
    wanted = {(approval_id, part) for approval_id, step in asking.items() for part in _parts(held, approval_id, step)}
    found = [f"{part}/{approval_id} is not on the open topic" for approval_id, part in sorted(wanted - held.keys())]
    found += [f"{part}/{approval_id} is on the open topic still" for approval_id, part in sorted(held.keys() - wanted)]
    for approval_id, step in asking.items():
        found += _wrong(held, approval_id, step)
    return found


def _parts(held: _Held, approval_id: str, step: StepState) -> list[str]:
    asking = step.asking
    if asking is None:
        return [REQUEST]
    parts = [REQUEST, *([PAYLOAD] if asking.edition > 1 else []), *map(note_part, range(1, asking.notes + 1))]
    # where a person took back what had not come, the votes are as if nobody had said anything
    has_standing = asking.is_changed or (approval_id, STANDING) in held
    return [*parts, STANDING] if has_standing else parts


def _wrong(held: _Held, approval_id: str, step: StepState) -> list[str]:
    """Parts that say something else than the state."""
    found: dict[str, bool] = {}
    due = None if step.due_at_ms is None else rfc3339(step.due_at_ms)
    if (value := held.get((approval_id, REQUEST))) is not None:
        request = decode_open_request(value)
        is_edited = step.asking is not None and step.asking.edition > 1
        # a deadline that was moved is in the standing
        is_due = (approval_id, STANDING) in held or request.deadline_at == due
        found[REQUEST] = request.role == step.role and (is_edited or request.digest == step.digest) and is_due
    if (value := held.get((approval_id, PAYLOAD))) is not None:
        payload = decode_open_payload(value)
        found[PAYLOAD] = (payload.payload, payload.digest) == (step.input, step.digest)
    if (value := held.get((approval_id, STANDING))) is not None and step.asking is not None:
        standing = decode_open_standing(value)
        found[STANDING] = standing.deadline_at == due and _shown(standing) == _known(step.asking, step.digest)
    return [
        f"{part}/{approval_id} on the open topic says another thing than the log"
        for part, ok in found.items()
        if not ok
    ]


def _shown(standing: OpenStanding) -> tuple[object, ...]:
    """What a tool learns of the votes, and of who may answer."""
    return (
        standing.edition,
        standing.digest,
        [(vote.by, vote.on_behalf, vote.choice) for vote in standing.votes],
        standing.stage,
        [(one.since, one.roles, one.people, one.alone) for one in standing.besides],
        (standing.claimed_by, standing.claimed_until),
        (standing.held, standing.questions),
    )


def _known(asking: Asking, digest: str) -> tuple[object, ...]:
    """The same of the state."""
    claim = asking.claim
    return (
        asking.edition,
        digest,
        [(vote.by, vote.on_behalf, vote.choice) for vote in asking.votes],
        asking.stage,
        [(rfc3339(one.from_ms), one.roles, one.people, one.alone) for one in asking.changes],
        (None, None) if claim is None else (claim.by, rfc3339(claim.until_ms)),
        (len(asking.held), tuple(one.number for one in asking.questions)),
    )
