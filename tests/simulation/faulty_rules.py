"""Faults put into the rules of the route language, one at a time.

What the rules promise (`mesh.testing.promises.rules`) must notice each. Asking `decide` again
can't: it is as wrong as the router's.
"""

from collections.abc import Callable
from typing import Any

import pytest
from faults import PLANS, Fault, fault
from msgspec.structs import replace

from mesh.core import decide, events, ids, limits, loops
from mesh.core.decide import progress
from mesh.core.decide.begin import for_each as begin_for_each
from mesh.core.decide.begin import loop as begin_loop
from mesh.core.decide.begin import task as begin_task
from mesh.core.decide.begin import undo as begin_undo
from mesh.core.decide.begin import wait as begin_wait
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle import attempt as settle_attempt
from mesh.core.decide.settle import call as settle_call
from mesh.core.decide.settle import event as settle_event
from mesh.core.decide.settle import start as settle_start
from mesh.core.decide.settle import timer as settle_timer
from mesh.core.evolve import budget as evolve_budget
from mesh.core.inputs import CallEnded
from mesh.core.limits import Grants, Limit
from mesh.core.route import Repeat, Step
from mesh.core.state import Account, StepState
from mesh.testing.simulation import Plan


def _drawn_alone(plan: Plan) -> Plan:
    """Nothing but drawn routes, and whatever rules they have."""
    return replace(plan, kinds=(), drawn=3, workflows=15)


def _of_kinds(*kinds: str) -> Callable[[Plan], Plan]:
    """Of fixed routes, for what few drawn ones come to."""
    return lambda plan: replace(plan, kinds=kinds, drawn=0, workflows=15)


def rule_fault(function: Fault) -> Fault:
    PLANS[function.__name__] = _drawn_alone
    return fault(function)


@rule_fault
def a_step_begins_before_all_that_it_needs_is_done(patch: pytest.MonkeyPatch) -> None:
    honest = progress._readiness

    def readiness(step: Step, steps: dict[str, StepState]) -> Any:
        found = honest(step, steps)
        begun = any(need in steps for need in step.needs)
        return progress._Ready() if found is None and begun and not step.first_of else found

    patch.setattr(progress, "_readiness", readiness)


@fault
def an_event_between_two_rounds_is_dismissed(patch: pytest.MonkeyPatch) -> None:
    """As if a step that is settled were over, though its loop begins it again."""
    patch.setattr(settle_event, "is_over", lambda _, steps, name: loops.is_settled(steps.get(name)))


@fault
def the_wait_of_a_new_round_takes_the_event_of_the_last(patch: pytest.MonkeyPatch) -> None:
    honest = begin_wait._taken_beside

    def beside(draft: Draft, name: str, alias: str) -> list[dict[str, Any]]:
        taken = [event.cloud_event for event in draft.events if isinstance(event, events.EventReceived) and event.kept]
        return [*honest(draft, name, alias), *taken]

    patch.setattr(begin_wait, "_taken_beside", beside)


PLANS["an_event_between_two_rounds_is_dismissed"] = _of_kinds("dialog")
PLANS["the_wait_of_a_new_round_takes_the_event_of_the_last"] = _of_kinds("echo")


@rule_fault
def a_race_leaves_the_others_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "_cancel_others", lambda *_: [])


PLANS["a_race_leaves_the_others_open"] = _of_kinds("limited-too", "race")


@rule_fault
def a_task_is_tried_once_too_often(patch: pytest.MonkeyPatch) -> None:
    honest = begin_task.agent_work

    def generous(draft: Draft, place: str) -> Any:
        work = honest(draft, place)
        return replace(work, retry=replace(work.retry, attempts=work.retry.attempts + 1))

    patch.setattr(settle_attempt, "agent_work", generous)


@rule_fault
def a_step_that_its_route_can_do_without_fails_the_workflow(patch: pytest.MonkeyPatch) -> None:
    honest = begin_task.work_at

    def strict(draft: Draft, place: str) -> Any:
        work = honest(draft, place)
        return replace(work, on_exhausted="fail" if work.on_exhausted == "continue" else work.on_exhausted)

    patch.setattr(settle_attempt, "work_at", strict)


@rule_fault
def one_item_too_many_is_under_way(patch: pytest.MonkeyPatch) -> None:
    honest = begin_for_each._under_way

    def under_way(draft: Draft, name: str) -> Any:
        state, fan, each = honest(draft, name)
        return state, fan, replace(each, concurrency=each.concurrency + 1)

    patch.setattr(begin_for_each, "_under_way", under_way)


@rule_fault
def every_item_may_fail(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_attempt, "is_tolerated", lambda *_: True)


@rule_fault
def a_loop_goes_round_once_too_often(patch: pytest.MonkeyPatch) -> None:
    honest = begin_loop.goes_round

    def goes_round(draft: Draft, name: str, repeat: Repeat) -> bool:
        return honest(draft, name, replace(repeat, limit=repeat.limit + 1))

    patch.setattr(progress, "goes_round", goes_round)


@rule_fault
def a_task_goes_out_without_a_slot_of_its_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(begin_task, "limits_of", lambda *_, **__: [])


@fault
def grants_of_a_limit_that_are_merged_count_as_of_the_first(patch: pytest.MonkeyPatch) -> None:
    """As a limit of a high rate merges them; here one of a low rate does."""
    honest = limits._counted

    def counted(recent: tuple[Grants, ...], limit: Limit, at_ms: int) -> tuple[Grants, ...]:
        return tuple(Grants(one.first_ms, one.first_ms, one.count) for one in honest(recent, limit, at_ms))

    patch.setattr(limits, "_PARTS", 1)
    patch.setattr(limits, "_counted", counted)


PLANS["grants_of_a_limit_that_are_merged_count_as_of_the_first"] = _of_kinds("limited")


@rule_fault
def a_budget_holds_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "shortage", lambda *_: None)


@rule_fault
def only_what_is_under_way_is_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(begin_undo, "may_be_done", lambda step: step.status == "running")


@rule_fault
def what_was_done_first_is_undone_first(patch: pytest.MonkeyPatch) -> None:
    honest = events.CompensationStarted

    def turned(**given: Any) -> Any:
        return honest(**{**given, "steps": tuple(reversed(given["steps"]))})

    patch.setattr(begin_undo, "CompensationStarted", turned)


for _name in ("only_what_is_under_way_is_undone", "what_was_done_first_is_undone_first"):
    PLANS[_name] = _of_kinds("undoes")


@rule_fault
def a_wait_in_vain_is_skipped_whatever_its_route_says(patch: pytest.MonkeyPatch) -> None:
    honest = settle_timer._give_up_waiting

    def give_up(draft: Draft, name: str, step: StepState) -> None:
        given = draft.route.steps[name]
        steps = {**draft.route.steps, name: replace(given, work=replace(given.work, on_timeout="skip"))}
        route = draft.route
        draft.go_over(replace(route, steps=steps))
        honest(draft, name, step)
        draft.go_over(route)

    patch.setattr(settle_timer, "_give_up_waiting", give_up)


@rule_fault
def what_a_call_took_counts_twice(patch: pytest.MonkeyPatch) -> None:
    honest = evolve_budget._of_call

    def of_call(account: Account, was: StepState | None, event: Any) -> Account:
        after = honest(account, was, event)
        took = evolve_budget._used(account, event.usage or {}) if isinstance(event, events.CallSucceeded) else {}
        return replace(after, spent=evolve_budget._plus(after.spent, took))

    patch.setattr(evolve_budget, "_of_call", of_call)


@rule_fault
def a_call_that_nobody_waits_for_leaves_its_slice_at_once(patch: pytest.MonkeyPatch) -> None:
    honest = evolve_budget._of_call

    def of_call(account: Account, was: StepState | None, event: Any) -> Account:
        if isinstance(event, events.CallWithdrawn) and was is not None:
            return evolve_budget._settled(account, was.reserved, {})
        return honest(account, was, event)

    patch.setattr(evolve_budget, "_of_call", of_call)


@rule_fault
def a_called_workflow_spends_all_that_its_own_route_gives(patch: pytest.MonkeyPatch) -> None:
    honest = settle_start._limits
    patch.setattr(settle_start, "_limits", lambda budget, part: honest(budget, part if budget is None else None))


@rule_fault
def the_end_of_one_items_call_is_taken_for_anothers(patch: pytest.MonkeyPatch) -> None:
    honest = settle_call.on_call_ended

    def on_call_ended(draft: Draft, given: CallEnded) -> None:
        parsed, steps = ids.parse_step_id(given.task_id), draft.workflow.steps if draft.workflow is not None else {}
        others = [
            step
            for place, step in steps.items()
            if parsed is not None
            and ids.is_item(place)
            and ids.step_of(place) == ids.step_of(parsed.step)
            and place != parsed.step
            and step.status == "calling"
        ]
        other = others[0] if others else None
        honest(draft, replace(given, task_id=other.task_id, attempt=other.attempt) if other is not None else given)

    patch.setattr(decide, "on_call_ended", on_call_ended)
