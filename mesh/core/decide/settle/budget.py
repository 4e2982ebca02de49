"""Budgets: whether a task may be sent, and what happens if it may not.

A task or a call that may not be sent is held. It goes out as soon as others have left enough. If
they no longer can, the route's `on_exhausted` is applied once, however many tasks are held: the
workflow fails, or somebody is asked for more.
"""

from math import inf
from typing import Any, Final

from mesh.core import ids
from mesh.core.decide.begin.call import call
from mesh.core.decide.begin.end import end
from mesh.core.decide.begin.portion import Portion, go_on_later
from mesh.core.decide.begin.task import dispatch, why_paused, work_at
from mesh.core.decide.begin.undo import cancel_step
from mesh.core.decide.draft import Draft, Shortage
from mesh.core.events import ApprovalClosed, ApprovalRequested, BudgetRaised
from mesh.core.json_values import digest
from mesh.core.layered import keys_where
from mesh.core.route import Budget, CallWork
from mesh.core.state import FINISHED, Account, StepState

_TIME: Final = "time_s"


def look_after_budget(draft: Draft) -> None:
    """Give what was freed to the tasks that are held, in their order.

    Called once for each decision on a run with a budget.
    """
    workflow = draft.workflow
    # what is being undone is never held, and nothing new begins beside it (ADR 11)
    if workflow is None or workflow.account is None or workflow.status != "running" or workflow.ending is not None:
        return
    # what is held then is sent, or asked for, when it resumes
    if draft.is_paused:
        return
    release_held(draft, "there is budget for it now")
    held = [place for place in _held(draft) if not _is_agent_paused(draft, place)]
    over = draft.live.account is not None and draft.live.account.is_time_over
    question = next(iter(keys_where(draft.live.steps, _is_open_question)), None)
    if not held and not over:
        if question is not None:
            cancel_step(draft, question, "there is budget enough now")
        return
    why = "its time is over" if over else _why(draft, held)
    # asked once, however many tasks are held (ADR 11)
    if question is None and why:
        _exhausted(draft, held, why)


def release_held(draft: Draft, reason: str) -> None:
    """Send what is held, and neither its budget nor its agent holds any longer.

    As much of it as one decision holds.

    The rest of a for-each goes out in the next decision.
    """
    # this decision may have begun items already, and all of them must fit into one record
    portion = Portion.of(draft)
    short: set[str] = set()  # steps for whose tasks too little is left
    for place in _held(draft):
        # all items of a step need the same, and what is sent here leaves no more than before
        if (name := ids.step_of(place)) in short:
            continue
        if _is_agent_paused(draft, place):
            continue
        if _shortage(draft, place) is not None:
            # a smaller task behind it may fit
            short.add(name)
            continue
        # only lists can make a decision grow without bound: a step by itself goes out whatever it
        # weighs
        if portion.takes(draft.live.steps[place].input) or not ids.is_item(place):
            _send(draft, place, reason)
        else:
            go_on_later(draft, name)
            return


def _held(draft: Draft) -> list[str]:
    return keys_where(draft.live.steps, _is_held)


def _is_held(place: str, step: StepState) -> bool:  # noqa: ARG001 - as `keys_where` asks
    return step.status == "held"


def _is_agent_paused(draft: Draft, place: str) -> bool:
    """Whether what is held there waits for its agent to resume, whatever the budget has."""
    if not draft.pauses:
        return False
    work = work_at(draft, place)
    return not isinstance(work, CallWork) and bool(why_paused(draft, draft.live.steps[place].agent, work))


def _is_open_question(place: str, step: StepState) -> bool:
    return ids.is_budget(place) and step.status not in FINISHED


def _shortage(draft: Draft, place: str) -> Shortage | None:
    # neither is ever held for budget (ADR 11), only until the workflow resumes
    if ids.is_undo(place) or ids.is_question(place):
        return None
    work = work_at(draft, place)
    return draft.shortage(work.reserve, is_call=isinstance(work, CallWork))


def _why(draft: Draft, held: list[str]) -> str:
    """What is lacking; empty as long as tasks and calls that are out may leave enough."""
    short = _shortage(draft, held[0])
    if short is None or short.may_pass:
        return ""
    others = f", and {len(held) - 1} more wait" if len(held) > 1 else ""
    return f"{held[0]} needs {short.what}{others}"


def _exhausted(draft: Draft, held: list[str], why: str) -> None:
    budget, account = draft.route.budget, draft.live.account
    # a route that it was moved to may have none
    if budget is None or account is None or budget.on_exhausted == "fail":
        end(draft, "failed", f"the budget is exhausted: {why}; {_mend(draft, held)}")
    else:
        _ask(draft, budget, account, held, why)


def _mend(draft: Draft, held: list[str]) -> str:
    """What lets the next run avoid this end.

    More for the call, if its slice is what is lacking; else more in the route.
    """
    workflow, short = draft.live, _shortage(draft, held[0]) if held else None
    name, route = short.name if short is not None else "", workflow.route
    if name and workflow.caller is not None and _is_slice(draft, name):
        return (
            f"that is the slice which {workflow.caller.task_id} has reserved for this call: "
            f"reserve more {name} there, or give route {route} a budget with on_exhausted: ask"
        )
    return f"raise {name or 'time'} in the budget of route {route}, or write on_exhausted: ask there"


def _is_slice(draft: Draft, name: str) -> bool:
    """Whether the caller's slice is the limit, and not the route's own budget."""
    account, budget = draft.live.account, draft.route.budget
    own = inf if budget is None else budget.limits.get(name, inf)
    return account is not None and account.limits[name] < own


def _ask(draft: Draft, budget: Budget, account: Account, held: list[str], why: str) -> None:
    """Ask somebody for more budget.

    The question is kept at the first step that needs the answer. Each further question there is a
    round of its own.
    """
    workflow = draft.live
    # if the time is over, there may be nothing that is held
    waiting = held or [name for name in draft.route.steps if not _is_done(draft, name)]
    place = ids.budget_place(ids.step_of(waiting[0]))
    before = workflow.steps.get(place)
    turn = 1 if before is None else before.round + 1
    approval = ids.approval_id(workflow.workflow_id, workflow.run_id, ids.instance(place, round=turn))
    limits = account.limits  # which has a caller's slice too
    # after a grant the run's limits have grown: what is offered next is the route's amount again
    payload = {name: min(limit, budget.limits.get(name, limit)) for name, limit in limits.items()}
    if account.is_time_over and budget.time_s is not None:
        payload[_TIME] = budget.time_s
    draft.add(
        ApprovalRequested(
            step=place,
            approval_id=approval,
            question=f"Grant {workflow.workflow_id} more? {why}",
            payload=payload,
            digest=digest(payload),
            role=budget.role,
            # silence grants nothing
            on_expiry="reject",
            traceparent=draft.traceparent(approval),
            reason="the budget is exhausted",
            deadline_at_ms=None if budget.deadline_s is None else draft.now_ms + int(budget.deadline_s * 1000),
            payload_schema=_schema(payload),
            round=turn,
        )
    )


def _is_done(draft: Draft, name: str) -> bool:
    state = draft.live.steps.get(name)
    return state is not None and state.status in FINISHED


def _schema(payload: dict[str, float]) -> dict[str, Any]:
    """The schema of a grant: any amount of each limit."""
    amounts = {name: {"type": "number", "minimum": 0} for name in payload}
    return {"type": "object", "properties": amounts, "additionalProperties": False}


def on_budget_answer(draft: Draft, closed: ApprovalClosed) -> None:
    """Take the answer to a question for more budget.

    It is more, which `look_after_budget` shares out; or no, and the workflow fails.
    """
    if closed.verdict == "rejected":
        why = f": {closed.reason}" if closed.reason else ""
        end(draft, "failed", f"the budget is exhausted, and more was refused by {closed.by or 'its deadline'}{why}")
        return
    granted = dict(closed.payload)
    time_s = granted.pop(_TIME, None)
    expires = draft.now_ms + int(time_s * 1000) if time_s else None
    draft.add(BudgetRaised(granted=granted, by=closed.by, expires_at_ms=expires))


def _send(draft: Draft, place: str, reason: str) -> None:
    step, work = draft.live.steps[place], work_at(draft, place)
    if isinstance(work, CallWork):
        # while it was held the step kept the number of the attempt before (`evolve`)
        call(draft, place, work, step.input, reason, attempt=step.attempt + 1)
        return
    dispatch(
        draft,
        place,
        work,
        step.input,
        reason,
        attempt=step.attempt + 1,
        budget_from=step.retry_budget_from,
        agent=step.agent,
        hop=step.hop,
    )
