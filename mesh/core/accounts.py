"""Accounts: what events make of a run's budget. Part of `evolve`, by the same rules: no route, no clock.

A task's reserve is promised when it is sent, and settled when it is heard of: by the usage in its result, or whole where nothing is said of it. So what is spent and promised stays within the limits as long as
agents use no more than their reserve.
"""

from typing import Final

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.events import (
    BudgetRaised,
    BudgetTimeOver,
    Event,
    SlotRequested,
    StepCancelled,
    StepGivenUp,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
)
from mesh.core.state import Account, StepState, Workflow

__all__ = ["booked", "budgeted", "unheard"]

_Amounts = dict[str, float]
_DIGITS: Final = 9  # sums of fractions must not drift apart in two folds


def booked(account: Account, was: StepState | None, event: Event, steps: dict[str, StepState]) -> Account:
    """The account after `event`, which found the step as it `was`, among `steps`."""
    if was is not None and was.status == "queued" and not isinstance(event, StepCancelled | StepGivenUp):
        account, was = _settled(account, was.reserved, {}), replace(was, reserved=None)
    match event:
        case SlotRequested():
            return replace(account, reserved=_plus(account.reserved, event.reserved or {}))
        case TaskDispatched():
            hop = {"hops": 1.0} if "hops" in account.limits and not ids.is_undo(event.step) else {}
            return replace(
                account,
                spent=_plus(account.spent, hop),
                reserved=_plus(account.reserved, event.reserved or {}),
            )
        case TaskSucceeded() | TaskHandedOver() | TaskFailed() if was is not None:
            return _heard(account, was, event)
        case StepCancelled() | StepGivenUp() | StepSkipped():
            out = [state for place, state in steps.items() if place == event.step or _is_item_of(place, event.step)]
            for state in out:
                taken = {} if state.status == "queued" else state.reserved or {}
                account = _settled(account, state.reserved, taken)
            return account
        case _:
            return account


def _heard(account: Account, was: StepState, event: TaskSucceeded | TaskHandedOver | TaskFailed) -> Account:
    if was.reserved is None:
        # An earlier attempt, which was charged for what it might have taken, is heard of after all.
        late = _used(account, event.usage) if isinstance(event, TaskSucceeded) else {}
        return (
            replace(account, spent=_plus(_plus(account.spent, was.charged or {}, sign=-1), late)) if late else account
        )
    if isinstance(event, TaskFailed) and event.kind == "undeliverable":
        return _settled(account, was.reserved, {})
    return _settled(account, was.reserved, was.reserved if event.usage is None else _used(account, event.usage))


def unheard(was: StepState, event: TaskFailed) -> _Amounts | None:
    """What a failed attempt is charged for without a word of what it took."""
    return was.reserved if event.usage is None and event.kind != "undeliverable" else None


def budgeted(before: Workflow, event: BudgetRaised | BudgetTimeOver) -> Workflow:
    """The run with more budget, or with no time left."""
    account = before.account
    if account is None:
        raise ValueError(f"{type(event).__name__} for {before.workflow_id}, which has no budget")
    if isinstance(event, BudgetTimeOver):
        return replace(before, account=replace(account, is_time_over=True), expires_at_ms=None)
    limits = {name: limit + event.granted.get(name, 0.0) for name, limit in account.limits.items()}
    over = account.is_time_over and event.expires_at_ms is None
    expires = event.expires_at_ms if event.expires_at_ms is not None else before.expires_at_ms
    return replace(before, account=replace(account, limits=limits, is_time_over=over), expires_at_ms=expires)


def _settled(account: Account, reserved: _Amounts | None, took: _Amounts) -> Account:
    if reserved is None:
        return account
    return replace(account, reserved=_plus(account.reserved, reserved, sign=-1), spent=_plus(account.spent, took))


def _used(account: Account, usage: _Amounts | None) -> _Amounts:
    """Of a result's usage, what the budget speaks of. Tokens may be given as input and output."""
    found = dict(usage or {})
    if "tokens" not in found and ("input_tokens" in found or "output_tokens" in found):
        found["tokens"] = found.get("input_tokens", 0.0) + found.get("output_tokens", 0.0)
    return {name: max(0.0, found[name]) for name in account.limits if name in found}


def _plus(one: _Amounts, other: _Amounts, *, sign: int = 1) -> _Amounts:
    if not other:
        return one
    return {**one, **{name: round(one.get(name, 0.0) + sign * amount, _DIGITS) for name, amount in other.items()}}


def _is_item_of(place: str, step: str) -> bool:
    return ids.is_item(place) and ids.step_of(place) == step
