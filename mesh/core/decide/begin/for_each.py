"""Begin a step's work for each item of a list.

Tasks, calls or approvals, a bounded number at once, in portions that one decision can hold.
"""

from typing import Any, NamedTuple

from mesh.core import ids
from mesh.core.decide.begin.approval import ask
from mesh.core.decide.begin.call import call
from mesh.core.decide.begin.portion import PORTION_BYTES, Portion, go_on_later, size_of
from mesh.core.decide.begin.task import dispatch, work_at
from mesh.core.decide.draft import Draft
from mesh.core.events import ForEachEnded, ForEachStarted, IncidentRaised, IncidentResolved
from mesh.core.json_values import kind_of
from mesh.core.route import ApprovalWork, CallWork, ExpressionError, ForEach, Step
from mesh.core.state import Fan, StepState


def start(draft: Draft, step: Step, each: ForEach, reason: str) -> bool:
    """Begin the for-each. Raises `ExpressionError`.

    True: the list is empty, so the step is settled.
    """
    items = each.items.render(draft.scope_of(step.name))
    if not isinstance(items, list):
        raise ExpressionError(f"for_each needs a list, and {each.items.source} is {kind_of(items)}")
    # the whole list is in the event: an item that begins later, or again, must not see another list
    draft.add(ForEachStarted(step=step.name, items=items, reason=reason))
    # this decision's record holds the list already, and the items' tasks must fit in beside it
    if size_of(items) > PORTION_BYTES:
        go_on_later(draft, step.name)
        return False
    return advance(draft, step.name)


def advance(draft: Draft, name: str, *, alone: bool = False) -> bool:
    """Begin as many items as there is room for; none if it waits for an operator, or is paused.

    True: every item was settled, and now the step is too.

    An item too large for a portion begins in a decision of its own (`alone`), so it makes no other
    input fail.
    """
    state, fan, each = _under_way(draft, name)
    # before the incident is looked at: late results may settle the last items while an operator has
    # the step
    if fan.settled == fan.total:
        if state.incident is not None:
            # an operator has it, but all items are settled, so nothing is left to decide
            draft.add(IncidentResolved(step=name, action="result", by="the results of its items"))
        draft.add(ForEachEnded(step=name, failed=fan.failed))
        return True
    if state.incident is not None or draft.is_paused:
        return False
    room = min(each.concurrency - (fan.begun - fan.settled), fan.total - fan.begun)
    portion = Portion(alone=alone)
    for count in range(room):
        item = _item(draft, name, fan.begun + count, state.input)
        if not portion.takes(item.value):
            go_on_later(draft, name)
            return False
        _begin(draft, item)
    return False


class _Item(NamedTuple):
    """The input of one item, or why it can't be made."""

    place: str
    value: Any
    reason: str
    problem: str = ""


def _item(draft: Draft, name: str, index: int, items: list[Any]) -> _Item:
    place, reason = ids.item_place(name, index), f"item {index + 1} of {len(items)}"
    try:
        return _Item(place, input_of(draft, name, index), reason)
    except ExpressionError as error:
        return _Item(place, None, reason, str(error))


def input_of(draft: Draft, name: str, index: int) -> Any:
    """The input of one item. Raises `ExpressionError`."""
    scope, work = draft.scope_of(ids.item_place(name, index)), draft.route.steps[name].work
    if isinstance(work, ApprovalWork):
        return work.payload.render(scope)
    return work_at(draft, name).input.render(scope)


def _begin(draft: Draft, item: _Item) -> None:
    """Begin the item's first attempt, its call or its approval.

    An input that can't be made is an incident.
    """
    if item.problem:
        draft.add(IncidentRaised(step=item.place, kind="expression", message=item.problem))
        return
    asks = draft.route.steps[ids.step_of(item.place)].work
    if isinstance(asks, ApprovalWork):
        _ask(draft, item, asks)
        return
    work = work_at(draft, item.place)
    if isinstance(work, CallWork):
        call(draft, item.place, work, item.value, item.reason)
    else:
        dispatch(draft, item.place, work, item.value, item.reason, attempt=1)


def _ask(draft: Draft, item: _Item, work: ApprovalWork) -> None:
    try:
        ask(draft, item.place, work, item.reason)
    except ExpressionError as error:
        draft.add(IncidentRaised(step=item.place, kind="expression", message=str(error)))


def begin_item(draft: Draft, name: str, index: int) -> None:
    """Begin an item again that never got as far as a task."""
    _begin(draft, _item(draft, name, index, draft.live.steps[name].input))


def is_tolerated(draft: Draft, name: str) -> bool:
    """Whether one more item of this for-each may fail."""
    _, fan, each = _under_way(draft, name)
    return fan.failed < each.tolerated(fan.total)


def is_beyond_tolerance(draft: Draft, name: str) -> bool:
    """Whether more items of this for-each have failed than may."""
    _, fan, each = _under_way(draft, name)
    return fan.failed > each.tolerated(fan.total)


def _under_way(draft: Draft, name: str) -> tuple[StepState, Fan, ForEach]:
    state, each = draft.live.steps[name], draft.route.steps[name].for_each
    if state.fan is None or each is None:
        raise AssertionError(f"{name} of {draft.workflow_id} is not a for-each under way")
    return state, state.fan, each
