"""Judges the approvals that agents ask for, for one call each.

Owns this part of what `mesh.testing.promises.judge` checks, from the log alone.

* a step waits for one approval at a time, and no task of it goes out meanwhile
* the question is about what its agent wanted, and its id was never used
* a task goes out with all verdicts of its own, no others, each for the payload as it was asked
* it uses up none of the route's attempts
* what ends a step leaves no question of its agent open; a verdict ends no workflow
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from mesh.core import events as ev
from mesh.core import ids

_Place = tuple[str, str]
"""The workflow, and the place of the step."""


class _Verdict(NamedTuple):
    name: str
    digest: str
    verdict: str
    payload: Any


class ToolApprovals:
    """What the log says of them so far.

    `expect` notes a finding unless its first argument is true.
    """

    def __init__(self, expect: Callable[[bool, str], None]) -> None:
        self._expect = expect
        self._waiting: dict[_Place, ev.ApprovalWanted] = {}
        self._open: set[_Place] = set()  # where a question is open; places of the questions
        self._asked: set[str] = set()  # ids of approvals
        self._verdicts: dict[str, list[_Verdict]] = {}  # by task
        self._sent: dict[str, tuple[int, int]] = {}  # by task: the attempt, and how many of the route's it is
        self._wanted: set[str] = set()  # tasks whose last word was that they want an approval

    def check(self, decision: ev.Decision, where: str) -> None:
        for event in decision.events:
            self._take(decision, event, f"{where}: {getattr(event, 'step', '')}")

    def _take(self, decision: ev.Decision, event: ev.Event, where: str) -> None:
        workflow = decision.workflow_id
        match event:
            case ev.ApprovalWanted():
                self._want((workflow, event.step), event, where)
            case ev.ApprovalRequested() if ids.is_tool(event.step):
                self._ask(workflow, event, where)
            case ev.ApprovalClosed() if ids.is_tool(event.step):
                self._close(workflow, event, where)
            case ev.ApprovalWithdrawn() | ev.IncidentRaised() if ids.is_tool(event.step):
                self._open.discard((workflow, event.step))
            case ev.TaskDispatched():
                self._send((workflow, event.step), event, where)
            case ev.TaskSucceeded() | ev.TaskFailed() | ev.TaskHandedOver():
                self._end((workflow, event.step), where)
            case ev.StepCancelled() | ev.StepSkipped() | ev.StepGivenUp() | ev.ForEachEnded():
                self._end((workflow, event.step), where)
            case ev.ApprovalReopened():
                self._begin_again(workflow, event)
            case ev.WorkflowEnded():
                left = [place for name, place in self._open if name == workflow]
                self._expect(not left, f"{where}: it has ended, and people are still asked at {left}")
                tells = isinstance(decision.events[0], ev.VoteCast) and ids.is_tool(decision.events[0].step)
                self._expect(event.status != "rejected" or not tells, f"{where}: a verdict on a call has ended it")
                self._forget(workflow)
            case _:
                pass

    def _want(self, place: _Place, event: ev.ApprovalWanted, where: str) -> None:
        self._expect(place not in self._waiting, f"{where} wants {event.name} approved, and waits already")
        self._waiting[place] = event
        self._wanted.add(event.task_id)

    def _ask(self, workflow: str, event: ev.ApprovalRequested, where: str) -> None:
        wanted = self._waiting.get((workflow, ids.asker_of(event.step)))
        is_it = wanted is not None and event.step == ids.tool_place(wanted.step, wanted.name)
        self._expect(is_it and wanted is not None and wanted.digest == event.digest, f"{where} is asked unasked for")
        self._expect(event.approval_id not in self._asked, f"{where}: {event.approval_id} was asked before")
        self._asked.add(event.approval_id)
        self._open.add((workflow, event.step))

    def _close(self, workflow: str, event: ev.ApprovalClosed, where: str) -> None:
        self._open.discard((workflow, event.step))
        wanted = self._waiting.pop((workflow, ids.asker_of(event.step)), None)
        self._expect(wanted is not None, f"{where} has a verdict, and nobody waits for it")
        if wanted is not None:
            payload = event.payload if event.edited else msgspec.UNSET
            verdict = _Verdict(wanted.name, wanted.digest, event.verdict, payload)
            self._verdicts.setdefault(wanted.task_id, []).append(verdict)

    def _send(self, place: _Place, event: ev.TaskDispatched, where: str) -> None:
        self._end(place, where)
        brought = [_Verdict(one.name, one.digest, one.verdict, one.payload) for one in event.approvals]
        known = self._verdicts.get(event.task_id, [])
        self._expect(brought == known, f"{where} goes out with {brought}, and the verdicts are {known}")
        count = event.attempt - event.retry_budget_from
        if event.task_id in self._wanted:
            expected = (self._sent[event.task_id][0] + 1, self._sent[event.task_id][1])
            self._expect((event.attempt, count) == expected, f"{where}: a question has used up an attempt")
        self._wanted.discard(event.task_id)
        self._sent[event.task_id] = event.attempt, count

    def _end(self, place: _Place, where: str) -> None:
        """The step goes on, or ends. With a for-each, so do its items."""
        workflow, step = place
        for name, asker in [one for one in self._waiting if one[0] == workflow and _is_within(one[1], step)]:
            question = ids.tool_place(asker, self._waiting.pop((name, asker)).name)
            self._expect((name, question) not in self._open, f"{where} goes on, and people are still asked: {question}")

    def _begin_again(self, workflow: str, event: ev.ApprovalReopened) -> None:
        again = set(event.begins_again)
        for task in [one for one in self._verdicts if one.startswith(f"{workflow}/")]:
            parsed = ids.parse_step_id(task)
            if parsed is not None and parsed.step in again:
                del self._verdicts[task]

    def _forget(self, workflow: str) -> None:
        self._waiting = {place: one for place, one in self._waiting.items() if place[0] != workflow}
        self._open = {place for place in self._open if place[0] != workflow}


def _is_within(place: str, step: str) -> bool:
    return place == step or (ids.is_item(place) and ids.step_of(place) == step)
