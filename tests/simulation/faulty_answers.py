"""Faults put into what becomes of people's answers: what is remembered, waited for and reported.

The rules of votes themselves have their faults in `tests/unit/test_voting_properties.py` and its
neighbours, which play one approval alone. Here are those that need a whole mesh: owners that take
over, ingress, timers.
"""

from itertools import count
from typing import Any

import pytest
from faults import PLANS, fault, with_a_blackout, with_an_office
from msgspec.structs import replace

from mesh.core import decide, receipts
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle import approval as settle_approval
from mesh.core.decide.settle import stages as settle_stages
from mesh.core.decide.settle import timer as settle_timer
from mesh.core.events import InputDismissed
from mesh.core.evolve import voting as evolve_voting
from mesh.core.state import StepState, Workflow
from mesh.services.router import barrier, takeover, timers
from mesh.services.router.deadlines import Barrier
from mesh.testing.simulation import Plan


@fault
def a_new_owner_forgets_which_answers_were_judged(patch: pytest.MonkeyPatch) -> None:
    """As if only the process knew the ids of answers, and not the log."""
    honest = takeover._move_in

    def forgetful(workflow: Workflow) -> Workflow:
        steps = {
            place: step if step.asking is None else replace(step, asking=replace(step.asking, seen={}))
            for place, step in workflow.steps.items()
        }
        return replace(workflow, steps=steps)

    def move_in(candidate: Any) -> None:
        honest(candidate)
        workflows = candidate.owner.state.workflows
        workflows.update({name: forgetful(one) for name, one in workflows.items()})

    patch.setattr(takeover, "_move_in", move_in)


@fault
def the_fold_moves_a_deadline_by_a_clock(patch: pytest.MonkeyPatch) -> None:
    """A deadline that was moved is a little later each time the log is read."""
    honest, clock = evolve_voting._moved, count(1)

    def moved(step: StepState, asking: Any, event: Any) -> StepState:
        return honest(step, asking, replace(event, deadline_at_ms=event.deadline_at_ms + next(clock)))

    patch.setattr(evolve_voting, "_moved", moved)


@fault
def a_deadline_waits_until_answers_are_copied_and_not_until_they_are_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(barrier, "Barrier", lambda up_to, targets, *more: Barrier(up_to, dict.fromkeys(targets, 0), *more))


@fault
def a_stage_comes_about_after_the_close(patch: pytest.MonkeyPatch) -> None:
    """Its timer fires and is taken, whatever has become of the approval."""
    honest = settle_approval.reach_stage

    def reach(draft: Draft, name: str, due_ms: int) -> None:
        step = draft.live.steps[name]
        stage = settle_stages.due_stage(step, due_ms)
        if step.status == "asking" or stage is None:
            honest(draft, name, due_ms)
        else:
            draft.add(settle_stages.escalated(name, step, stage))

    def due_at_ms(step: StepState) -> int | None:
        stage = None if step.asking is None else step.asking.next_stage
        return None if stage is None else stage.at_ms

    patch.setattr(settle_timer, "reach_stage", reach)
    patch.setattr(timers, "_stage_due_at_ms", due_at_ms)


@fault
def what_can_not_be_read_has_no_receipt(patch: pytest.MonkeyPatch) -> None:
    """It is a dead letter alone."""
    dismissed = InputDismissed(code="malformed", message="it can't be read")
    patch.setattr(decide, "on_unreadable_answer", lambda draft, _: draft.add(dismissed))


@fault
def a_receipt_is_named_by_the_answers_own_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receipts, "_source", lambda *_: None)


def _of_votes(plan: Plan) -> Plan:
    """Owners take over all the time while people vote."""
    weak = replace(plan.weak, latency_s=(0.0, 0.05))
    few: dict[str, Any] = {"drawn": 0, "heavy": (), "jumps": (), "real_agents": False, "pauses": False}
    return replace(plan, kinds=("vote",), workflows=8, routers=2, mean_life_s=8.0, weak=weak, **few)


PLANS.update(
    a_deadline_waits_until_answers_are_copied_and_not_until_they_are_read=with_a_blackout,
    a_new_owner_forgets_which_answers_were_judged=_of_votes,
    the_fold_moves_a_deadline_by_a_clock=_of_votes,
    a_stage_comes_about_after_the_close=_of_votes,
    what_can_not_be_read_has_no_receipt=with_an_office,
    a_receipt_is_named_by_the_answers_own_id=_of_votes,
)
