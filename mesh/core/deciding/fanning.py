"""Fanning out: a step's work for each item of a list, so many at once, in portions that a decision can hold."""

from typing import Any, Final

import msgspec

from mesh.core import ids
from mesh.core.cel_paths import kind_of
from mesh.core.deciding.dispatching import agent_work, dispatch
from mesh.core.deciding.draft import Draft
from mesh.core.events import ForEachEnded, ForEachStarted, IncidentRaised, PortionScheduled
from mesh.core.route import ExpressionError, ForEach, Step
from mesh.core.state import Fan, StepState

__all__ = ["advance", "begin_item", "is_tolerated", "start"]

PORTION: Final = 100  # tasks of one decision
PORTION_BYTES: Final = 256 * 1024  # of their inputs, once there is more than one

_encode = msgspec.json.Encoder().encode


def start(draft: Draft, step: Step, each: ForEach, reason: str) -> bool:
    """True: the list is empty, so the step is settled. Raises `ExpressionError`."""
    items = each.items.render(draft.scope_of(step.name))
    if not isinstance(items, list):
        raise ExpressionError(f"for_each needs a list, and {each.items.source} is {kind_of(items)}")
    draft.add(ForEachStarted(step=step.name, items=items, reason=reason))
    return advance(draft, step.name)


def advance(draft: Draft, name: str) -> bool:
    """Begin as many items as there is room for. True: every item was settled, and now the step is."""
    state, fan, each = _under_way(draft, name)
    if fan.settled == fan.total:
        draft.add(ForEachEnded(step=name, failed=fan.failed))
        return True
    room = min(each.concurrency - (fan.begun - fan.settled), fan.total - fan.begun)
    size = 0
    for count in range(room):
        if count == PORTION or size > PORTION_BYTES:
            draft.add(PortionScheduled(step=name, due_at_ms=draft.now_ms))
            return False
        size += begin_item(draft, name, fan.begun + count, state.input, measure=room > 1)
    return False


def begin_item(draft: Draft, name: str, index: int, items: list[Any], *, measure: bool = False) -> int:
    """An item's first attempt; an incident where its input can't be made. The input's size in bytes, if it is to be measured."""
    place, work = ids.item_place(name, index), agent_work(draft, name)
    try:
        value = work.input.render({**draft.scope_of(name), "item": items[index], "index": index})
    except ExpressionError as error:
        draft.add(IncidentRaised(step=place, kind="expression", message=str(error)))
        return 0
    dispatch(draft, place, work, value, f"item {index + 1} of {len(items)}", attempt=1)
    return len(_encode(value)) if measure else 0


def is_tolerated(draft: Draft, name: str) -> bool:
    """Whether one more item of this for-each may fail."""
    _, fan, each = _under_way(draft, name)
    return fan.failed < each.tolerated(fan.total)


def _under_way(draft: Draft, name: str) -> tuple[StepState, Fan, ForEach]:
    state, each = draft.live.steps[name], draft.route.steps[name].for_each
    if state.fan is None or each is None:
        raise AssertionError(f"{name} of {draft.workflow_id} is no for-each under way")
    return state, state.fan, each
