"""Loops: whether a loop goes round again once the step that closes it is done.

Every loop has a bound.
"""

from mesh.core.decide.begin.end import end
from mesh.core.decide.begin.undo import cancel_step
from mesh.core.decide.draft import Draft
from mesh.core.events import IncidentRaised, RoundStarted
from mesh.core.route import ExpressionError, Repeat
from mesh.core.state import FINISHED


def goes_round(draft: Draft, name: str, repeat: Repeat) -> bool:
    """Whether the loop is not done.

    If True, it goes round again, or its bound is reached and it is now an incident or the
    workflow's end.
    """
    try:
        if repeat.until.is_true(draft.scope_of(name)):
            return False
    except ExpressionError as error:
        # nobody knows that the loop is done, so nothing behind it may begin
        draft.add(IncidentRaised(step=name, kind="loop", message=str(error)))
        return True
    made = draft.live.steps[name].round
    if made < repeat.limit:
        go_round(draft, name, repeat)
        return True
    if repeat.on_limit == "continue":
        return False
    message = f"{repeat.until.source} is still false after {made} of {repeat.limit} rounds"
    if repeat.on_limit == "fail":
        end(draft, "failed", f"{name}: {message}")
    else:
        draft.add(IncidentRaised(step=name, kind="loop", message=message))
    return True


def go_round(draft: Draft, name: str, repeat: Repeat) -> None:
    """Begin the next round, and cancel what a join inside has left under way in this one."""
    turn = draft.live.steps[name].round + 1
    reason = f"{repeat.until.source} is false"
    for other in repeat.body:
        state = draft.live.steps.get(other)
        # a step that has not begun in this round has nothing to cancel
        if other != name and state is not None and state.status not in FINISHED and state.status != "again":
            cancel_step(draft, other, f"round {turn} begins: {reason}")
    draft.add(RoundStarted(step=name, round=turn, steps=repeat.body, reason=reason))
