"""Operators' forks and bulk operations in a test.

Owns what they are made of: which results a fork keeps, and the records of an operation, which the
router carries out as ever. `MeshKit` and `Run` call it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mesh.codec.operations import Ordered, command_id
from mesh.core.events import CommandAccepted, CommandRefused
from mesh.core.forks import PlannedFork
from mesh.core.inputs import Command
from mesh.core.route import Route
from mesh.inspection.forking import LastRun, last_run, mark_of, planned
from mesh.services.operations import order
from mesh.testing.kit.errors import is_for_the_test
from mesh.testing.kit.stage import Stage

__tracebackhide__ = is_for_the_test

Versions = Mapping[str, Route]
_RATE: Final = 1_000  # commands a second: all of a test at once


def fork_of(stage: Stage, workflow_id: str, step: str, versions: Versions, mark: str = "") -> PlannedFork:
    """The fork of a workflow's last run. `mark`: of its id; without it, as in bulk."""
    run = _last_run(stage, workflow_id)
    return planned(run, step, versions, mark=mark or mark_of(run, step))


def _last_run(stage: Stage, workflow_id: str) -> LastRun:
    return last_run((one.decision for one in stage.heard if one.decision.workflow_id == workflow_id), workflow_id)


class Bulk:
    """One bulk operation."""

    def __init__(
        self,
        stage: Stage,
        command: Command,
        workflow_ids: Sequence[str],
        *,
        by: str,
        reason: str,
        at_ms: int,
        step: str | None,
        given: Any,
        output: Any,
        to: Mapping[str, str],
    ) -> None:
        """Take what is ordered. `given`: the input; `to`: of migrate, the version by route."""
        self._stage = stage
        self._ids = list(workflow_ids)
        self._ordered = Ordered(
            operation=stage.fresh("operation"),
            command=command,
            total=len(self._ids),
            chunks=0,
            rate=_RATE,
            by=by,
            reason=reason,
            at_ms=at_ms,
            step=step,
            input=given,
            output=output,
            to=dict(to),
        )

    async def order(self, versions: Versions) -> None:
        """Write it down: the router carries it out."""
        ordered = self._ordered
        forks: dict[str, PlannedFork] = {}
        if ordered.command == "fork":
            forks = {one: fork_of(self._stage, one, ordered.step or "", versions) for one in self._ids}
        await order(self._stage.broker, self._stage.topics, ordered, self._ids, forks)

    def codes(self) -> dict[str, str]:
        """What became of each command that is decided: `accepted`, or why it was refused."""
        decided: dict[str, str] = {}
        for event in (event for heard in self._stage.heard for event in heard.decision.events):
            match event:
                case CommandAccepted():
                    decided.setdefault(event.command_id, "accepted")
                case CommandRefused():
                    decided.setdefault(event.command_id, event.code)
                case _:
                    pass
        ids = {one: command_id(self._ordered.operation, one) for one in self._ids}
        return {one: decided[name] for one, name in ids.items() if name in decided}

    def is_over(self) -> bool:
        return len(self.codes()) == len(self._ids)
