"""Budgets: what events change in a run's account.

Part of `evolve`, by the same rules: no route, no clock.

A task's reserve is reserved when the task is sent, and settled when its end is known: by the usage
in its result, or in full if the result has none. So what is spent and reserved stays within the
limits as long as agents use no more than their reserve. Each attempt counts once. What was counted
for it is kept with its step, and a later report of the same attempt replaces it.

A call's slice is reserved in the same way. Its workflow is sure to end, and then reports. So the
slice of a call that is taken back, or has timed out, stays reserved until then.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.amounts import as_amounts
from mesh.core.state import Account, StepState, Unheard, Workflow

_Amounts = dict[str, float]
_DIGITS: Final = 9  # sums of fractions must not drift apart in two folds
_HOP: Final = {"hops": 1.0}
_NAMED: Final = 3  # calls that a message names


def booked(account: Account, was: StepState | None, event: ev.Event, steps: Mapping[str, StepState]) -> Account:
    """The account after `event`. `was` is the step before it, `steps` are the steps before it."""
    match event:
        case ev.StepCancelled() | ev.StepGivenUp() | ev.StepSkipped() | ev.StepCompleted():
            return _given_up(account, event, steps)
        case _ if was is not None and was.status == "queued":
            # a queued step's reserve is given back first, because what follows promises it again
            account = _settled(account, was.reserved, {})
    match event:
        case ev.SlotRequested():
            return _promised(account, event.reserved)
        case ev.TaskDispatched():
            hop = _HOP if "hops" in account.limits and not ids.is_undo(event.step) else {}
            return _promised(replace(account, spent=_plus(account.spent, hop)), event.reserved)
        case ev.TaskSucceeded() | ev.TaskHandedOver() | ev.TaskFailed() | ev.ApprovalWanted() if was is not None:
            return _heard(account, was, event)
        case ev.CallMade() if event.slice is not None:
            return _promised(account, event.slice.limits)
        case ev.CallSucceeded() | ev.CallFailed() | ev.CallWithdrawn():
            return _of_call(account, was, event)
        case _:
            return account


_Heard = ev.TaskSucceeded | ev.TaskHandedOver | ev.TaskFailed | ev.ApprovalWanted


def _heard(account: Account, was: StepState, event: _Heard) -> Account:
    """Count the attempt that is out, or an earlier one that succeeded."""
    if was.status == "running":
        if event.attempt == was.attempt:
            return _settled(account, was.reserved, _took(account, was, event))
        # an earlier one has succeeded: nobody waits for the one that is out, so it counts in full
        account = _settled(account, was.reserved, was.reserved or {})
    if event.usage is None:
        return account
    # what counted for this attempt so far is replaced, so that it counts once
    before = (was.charged or {}).get(event.attempt, {})
    return replace(account, spent=_plus(_plus(account.spent, before, sign=-1), _used(account, event.usage)))


def _took(account: Account, was: StepState, event: _Heard) -> _Amounts:
    # it never left, so it has used nothing
    if isinstance(event, ev.TaskFailed) and event.kind == "undeliverable":
        return {}
    return (was.reserved or {}) if event.usage is None else _used(account, event.usage)


def charged(account: Account, was: StepState, event: ev.TaskFailed | ev.ApprovalWanted) -> dict[int, _Amounts] | None:
    """What has counted for each attempt of the step, now that this one has failed, or waits."""
    took = _took(account, was, event)
    return {**(was.charged or {}), event.attempt: took} if took else was.charged


def _given_up(
    account: Account,
    event: ev.StepCancelled | ev.StepGivenUp | ev.StepSkipped | ev.StepCompleted,
    steps: Mapping[str, StepState],
) -> Account:
    """Count in full what is out, because nobody will hear of it, except what was not sent."""
    unsent = event.unsent if isinstance(event, ev.StepCancelled) else ()
    for place, state in _with_items(steps, event.step):
        is_out = state.status == "running" and place not in unsent
        account = _settled(account, state.reserved, (state.reserved or {}) if is_out else {})
        # a task that was never sent is not a hop
        if place in unsent and "hops" in account.limits:
            account = replace(account, spent=_plus(account.spent, _HOP, sign=-1))
    return account


def _of_call(
    account: Account,
    was: StepState | None,
    event: ev.CallSucceeded | ev.CallFailed | ev.CallWithdrawn | ev.UsageReported,
) -> Account:
    """Count a call that is under way, or one that nobody waits for any more.

    The second kind counts until it has reported.
    """
    name, kept = ids.attempt_id(event.task_id, event.attempt), account.unheard
    if was is not None and was.status == "calling" and (was.task_id, was.attempt) == (event.task_id, event.attempt):
        reserved = was.reserved or {}
        if isinstance(event, ev.CallWithdrawn) or (isinstance(event, ev.CallFailed) and event.kind == "timeout"):
            return replace(account, unheard={**kept, name: Unheard(called=event.called, reserved=reserved)})
    elif name in kept:
        reserved = kept[name].reserved
        account = replace(account, unheard={other: left for other, left in kept.items() if other != name})
    else:
        return account
    usage = None if isinstance(event, ev.CallWithdrawn) else event.usage
    return _settled(account, reserved, reserved if usage is None else _used(account, usage))


def taken(account: Account, steps: Mapping[str, StepState], unsent: Collection[str]) -> _Amounts:
    """What the run has used, by name, now that it ends.

    What is out counts in full, except what waits for a slot or is at one of the places `unsent`.
    Hops are each run's own.
    """
    out = account.reserved
    for place, state in steps.items():
        if state.status == "queued" or place in unsent:
            out = _plus(out, state.reserved or {}, sign=-1)
    spent = _plus(account.spent, out)
    return {name: spent.get(name, 0.0) for name in (*account.limits, *account.counted) if name != "hops"}


def budgeted(before: Workflow, event: ev.BudgetRaised | ev.BudgetTimeOver | ev.UsageReported) -> Workflow:
    """The run with more budget, with no time left, or with one call fewer to hear of."""
    account = before.account
    if account is None:
        raise ValueError(f"{type(event).__name__} for {before.workflow_id}, which has no budget")
    if isinstance(event, ev.UsageReported):
        return replace(before, account=_of_call(account, None, event))
    if isinstance(event, ev.BudgetTimeOver):
        return replace(before, account=replace(account, is_time_over=True), expires_at_ms=None)
    limits = {name: limit + event.granted.get(name, 0.0) for name, limit in account.limits.items()}
    # more tokens alone do not bring time back
    over = account.is_time_over and event.expires_at_ms is None
    expires = event.expires_at_ms if event.expires_at_ms is not None else before.expires_at_ms
    return replace(before, account=replace(account, limits=limits, is_time_over=over), expires_at_ms=expires)


def unended(account: Account, name: str = "") -> str:
    """What is reserved for calls that nobody waits for any more, and for which calls.

    Of `name` alone, if given. Empty if nothing is.
    """
    calls = [one for one in account.unheard.values() if (one.reserved.get(name) if name else one.reserved)]
    if not calls:
        return ""
    kept: _Amounts = {}
    for one in calls:
        kept = _plus(kept, {what: one.reserved[what] for what in ([name] if name else one.reserved)})
    named = ", ".join(one.called for one in calls[:_NAMED])
    more = f" and {len(calls) - _NAMED} more" if len(calls) > _NAMED else ""
    which = "call that is not wanted any more has" if len(calls) == 1 else "calls that are not wanted any more have"
    return f"{as_amounts(kept)} are set aside until the {which} ended: {named}{more}"


def _promised(account: Account, reserved: _Amounts | None) -> Account:
    return replace(account, reserved=_plus(account.reserved, reserved or {}))


def _settled(account: Account, reserved: _Amounts | None, took: _Amounts) -> Account:
    if not reserved and not took:
        return account
    return replace(account, reserved=_plus(account.reserved, reserved or {}, sign=-1), spent=_plus(account.spent, took))


def _used(account: Account, usage: _Amounts) -> _Amounts:
    """The part of the reported usage that the budget limits.

    Tokens may be given as input and output.
    """
    found = dict(usage)
    if "tokens" not in found and ("input_tokens" in found or "output_tokens" in found):
        found["tokens"] = found.get("input_tokens", 0.0) + found.get("output_tokens", 0.0)
    # usage is the agent's word: a negative amount must not earn budget
    return {name: max(0.0, found[name]) for name in (*account.limits, *account.counted) if name in found}


def _plus(one: _Amounts, other: _Amounts, *, sign: int = 1) -> _Amounts:
    if not other:
        return one
    return {**one, **{name: round(one.get(name, 0.0) + sign * amount, _DIGITS) for name, amount in other.items()}}


def _with_items(steps: Mapping[str, StepState], place: str) -> list[tuple[str, StepState]]:
    """What there is at this place: the step and, if it is a for-each, its items."""
    state = steps.get(place)
    own = [] if state is None else [(place, state)]
    if state is None or state.fan is None:
        return own
    # the items begin in their order, and none is left out
    items = (ids.item_place(place, index) for index in range(state.fan.begun))
    return own + [(item, steps[item]) for item in items]
