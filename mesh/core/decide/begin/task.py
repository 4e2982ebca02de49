"""Dispatch a task: one attempt goes to an agent.

If the route names a capability, the agent is chosen here. The task is held until the budget and the
limits allow it.
"""

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.capabilities import choose, nobody
from mesh.core.decide.begin.limit import Attempt, limits_of, request
from mesh.core.decide.draft import Draft, Shortage
from mesh.core.events import IncidentRaised, TaskDispatched, TaskHeld
from mesh.core.pauses import agent_target
from mesh.core.route import AgentWork, CallWork, ExpressionError, Scope
from mesh.core.state import Account


def agent_work(draft: Draft, place: str) -> AgentWork:
    """What an agent is asked to do at this place: the step's work, its compensation, a question."""
    if ids.is_question(place):
        return question_work(draft.live.steps[place].agent)
    step = draft.route.steps[ids.step_of(place)]
    work = step.undo if ids.is_undo(place) else step.work
    if not isinstance(work, AgentWork):
        raise TypeError(f"{place} of {draft.workflow_id} has attempts, but its route gives it no agent")
    return work


class _Nothing:
    """The template of a task whose input no route gives."""

    source: Any = None
    paths: frozenset[str] = frozenset()

    def render(self, scope: Scope) -> Any:  # noqa: ARG002 - as all templates have it
        return None


def question_work(agent: str) -> AgentWork:
    """What an agent is asked to do where a person asks it: default time-outs and attempts."""
    # not from the route: a question that is out must not depend on a version that came later
    return AgentWork(agent=agent, input=_Nothing())


def work_at(draft: Draft, place: str) -> AgentWork | CallWork:
    """What an agent or another workflow is asked to do at this place."""
    work = draft.route.steps[ids.step_of(place)].work
    return work if isinstance(work, CallWork) and not ids.is_undo(place) else agent_work(draft, place)


def round_of(draft: Draft, place: str) -> int:
    """The round of the loop that a place is in; 1 if it is in no loop."""
    # a step is undone once in a run, however many rounds it had
    if not draft.route.looped or ids.is_undo(place):
        return 1
    state = draft.live.steps.get(ids.step_of(place))
    return 1 if state is None else state.round


def dispatch(
    draft: Draft,
    place: str,
    work: AgentWork,
    value: Any,
    reason: str,
    *,
    attempt: int,
    budget_from: int = 1,
    agent: str = "",
    hop: int = 1,
    failed: str = "",
    beyond: str = "",
) -> None:
    """Send the task, hold it for more budget or while it is paused, or ask the next limit.

    It is an incident if the task is for a capability and no agent is registered for it.

    `agent`: the agent that has it already, by an earlier attempt or by a hand-over, as the task's
    `hop`th. `failed`: the agent that failed, if a new one is chosen. `beyond`: the limit that has
    just granted a slot; what the task needs of the budget is then reserved.
    """
    workflow = draft.live
    short = None if workflow.account is None else _shortage(draft, workflow.account, place, work, beyond)
    paused = why_paused(draft, agent, work)
    why = paused or ("" if short is None else draft.why_short(short))
    if why:
        held = TaskHeld(
            step=place,
            attempt=attempt,
            agent=agent or work.agent,
            input=value,
            reason=why,
            retry_budget_from=budget_from,
            hop=hop,
            is_paused=bool(paused),
        )
        draft.add(held)
        return
    turn = round_of(draft, place)
    # without the attempt: it is the idempotency key of all attempts
    task = ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(place, round=turn, hop=hop))
    agent = agent or work.agent
    # chosen before the limits, since an agent may have a limit of its own
    if not agent:
        did = _did(draft, place)
        barred = _paused_of(draft, work.capability)
        choice = choose(draft.directory, work.capability, task, attempt=attempt, did=did, failed=failed, barred=barred)
        if choice is None:
            draft.add(IncidentRaised(step=place, kind="no_agent", message=nobody(work.capability)))
            return
        agent, reason = choice.agent, f"{reason}; {choice.why}"
    # Most tasks are under no limit, and pay for one look into the directory. After the budget: what
    # is reserved stays reserved while the task queues (ADR 7).
    if work.limit is not None or _has_limit(draft, agent):
        one = Attempt(place, task, attempt, agent, value, reason, budget_from, turn, hop, work.reserve)
        if _waits_for_slot(draft, work, one, beyond):
            return
    # 15 arguments, and the rest where it is needed: with one more, CPython 3.11 would pack them
    # into a dict, which takes three times as long
    sent = TaskDispatched(
        step=place,
        task_id=task,
        attempt=attempt,
        agent=agent,
        input=value,
        # from now on: the time in queues does not count against the agent (ADR 7)
        due_at_ms=draft.now_ms + int(work.timeout_s * 1000),
        traceparent=draft.traceparent(task, str(attempt)),
        reason=reason,
        retry_budget_from=budget_from,
        round=turn,
        hop=hop,
        reserved=work.reserve if work.reserve and workflow.account is not None else None,
        periods=work.periods,
        # after a handover the agent was named by another agent, not chosen here
        capability=work.capability if hop == 1 else "",
    )
    state = workflow.steps.get(place)
    if state is not None and (state.deaths or state.tools is not None):
        verdicts = () if state.tools is None else state.tools.verdicts
        # the agent's processes begin a suspect alone, and only if they know of it (ADR 12)
        sent = replace(sent, deaths=len(state.deaths), approvals=verdicts)
    draft.add(sent)


def why_paused(draft: Draft, agent: str, work: AgentWork) -> str:
    """What holds a task: its workflow, its route, its agent, or all that have the capability."""
    paused = draft.why_paused(agent or work.agent)
    if paused or not draft.pauses or agent or work.agent:
        return paused
    registered = draft.directory.registered.get(work.capability, ())
    # another one may do it
    is_all = bool(registered) and len(_paused_of(draft, work.capability)) == len(registered)
    return f"each agent of capability {work.capability} is paused" if is_all else ""


def _paused_of(draft: Draft, capability: str) -> Collection[str]:
    """The agents with this capability that are paused."""
    if not draft.pauses:
        return ()
    return [name for name in draft.directory.registered.get(capability, ()) if agent_target(name) in draft.pauses]


def _waits_for_slot(draft: Draft, work: AgentWork, one: Attempt, beyond: str) -> bool:
    """Ask the next limit for a slot. False: there is no other limit, and the task may go."""
    try:
        limits = limits_of(draft, work, one.agent, beyond=beyond)
        if limits:
            # one at a time: its grant comes back here with `beyond`, and asks the next
            request(draft, limits[0], one)
    except ExpressionError as error:
        draft.add(IncidentRaised(step=one.place, kind="expression", message=str(error)))
        return True
    return bool(limits)


def _did(draft: Draft, place: str) -> str:
    """The agent that did what is to be undone at this place. It knows best how to undo it."""
    return draft.live.steps[ids.step_of(place)].agent if ids.is_undo(place) else ""


def _shortage(draft: Draft, account: Account, place: str, work: AgentWork, beyond: str) -> Shortage | None:
    """What the budget lacks for the task."""
    # what was done must be undone, whatever the budget has left; and a question was let through
    # when it was asked
    if ids.is_undo(place) or ids.is_question(place):
        return None
    if not beyond:
        return draft.shortage(work.reserve)
    # it was queued, so it has its reserve already: it can lack only time, which may have run out
    # meanwhile
    return draft.shortage({}) if account.is_time_over else None


def _has_limit(draft: Draft, agent: str) -> bool:
    """Whether the agent bounds how many tasks may be out."""
    card = draft.directory.agents.get(agent)
    return card is not None and card.max_outstanding is not None
