"""Dispatch a task: one attempt goes to an agent.

If the route names a capability, the agent is chosen here. The task is held until the budget and the
limits allow it.
"""

from typing import Any

from mesh.core import ids
from mesh.core.capabilities import choose, nobody
from mesh.core.decide.begin.limit import limits_of, request
from mesh.core.decide.draft import Draft, Shortage
from mesh.core.events import IncidentRaised, TaskDispatched, TaskHeld
from mesh.core.route import AgentWork, CallWork, ExpressionError


def agent_work(draft: Draft, place: str) -> AgentWork:
    """What an agent is asked to do at this place: the step's work, or its compensation."""
    step = draft.route.steps[ids.step_of(place)]
    work = step.undo if ids.is_undo(place) else step.work
    if not isinstance(work, AgentWork):
        raise TypeError(f"{place} of {draft.workflow_id} has attempts, but its route gives it no agent")
    return work


def work_at(draft: Draft, place: str) -> AgentWork | CallWork:
    """What an agent or another workflow is asked to do at this place."""
    work = draft.route.steps[ids.step_of(place)].work
    return work if isinstance(work, CallWork) and not ids.is_undo(place) else agent_work(draft, place)


def round_of(draft: Draft, place: str) -> int:
    """The round of the loop that a place is in; 1 if it is in no loop."""
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
    """Send the task, hold it for more budget, or ask the next limit for a slot.

    It is an incident if the task is for a capability and no agent is registered for it.

    `agent`: the agent that has it already, by an earlier attempt or by a hand-over, as the task's
    `hop`th. `failed`: the agent that failed, if a new one is chosen. `beyond`: the limit that has
    just granted a slot; what the task needs of the budget is then reserved.
    """
    workflow, turn = draft.live, round_of(draft, place)
    reserve = work.reserve
    # what was done must be undone, whatever the budget has left
    if not ids.is_undo(place):
        # a queued task has its reserve already; only the time may have run out meanwhile
        short = _shortage_of_time(draft) if beyond else draft.shortage(reserve)
        if short is not None:
            draft.add(
                TaskHeld(
                    step=place,
                    attempt=attempt,
                    agent=agent or work.agent,
                    input=value,
                    reason=draft.why_held(short),
                    retry_budget_from=budget_from,
                    hop=hop,
                )
            )
            return
    task = ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(place, round=turn, hop=hop))
    agent = agent or work.agent
    if not agent:
        did = _did(draft, place)
        choice = choose(draft.directory, work.capability, task, attempt=attempt, did=did, failed=failed)
        if choice is None:
            draft.add(IncidentRaised(step=place, kind="no_agent", message=nobody(work.capability)))
            return
        agent, reason = choice.agent, f"{reason}; {choice.why}"
    if work.limit is not None or _has_limit(draft, agent):
        try:
            limits = limits_of(draft, work, agent, beyond=beyond)
            if limits:
                request(
                    draft,
                    place,
                    limits[0],
                    task=task,
                    attempt=attempt,
                    agent=agent,
                    value=value,
                    reason=reason,
                    retry_budget_from=budget_from,
                    turn=turn,
                    hop=hop,
                    reserve=reserve,
                )
                return
        except ExpressionError as error:
            draft.add(IncidentRaised(step=place, kind="expression", message=str(error)))
            return
    draft.add(
        TaskDispatched(
            step=place,
            task_id=task,
            attempt=attempt,
            agent=agent,
            input=value,
            due_at_ms=draft.now_ms + int(work.timeout_s * 1000),
            traceparent=draft.traceparent(task, str(attempt)),
            reason=reason,
            retry_budget_from=budget_from,
            round=turn,
            hop=hop,
            reserved=reserve if reserve and workflow.account is not None else None,
            periods=work.periods,
            # after a handover the agent was named by another agent, not chosen here
            capability=work.capability if hop == 1 else "",
            deaths=len(state.deaths) if (state := workflow.steps.get(place)) is not None else 0,
        )
    )


def _did(draft: Draft, place: str) -> str:
    """The agent that did what is to be undone at this place. It knows best how to undo it."""
    return draft.live.steps[ids.step_of(place)].agent if ids.is_undo(place) else ""


def _shortage_of_time(draft: Draft) -> Shortage | None:
    """The only thing that a queued task may lack is time: the rest is reserved for it."""
    account = draft.live.account
    return draft.shortage({}) if account is not None and account.is_time_over else None


def _has_limit(draft: Draft, agent: str) -> bool:
    """Whether the agent bounds how many tasks may be out."""
    card = draft.directory.agents.get(agent)
    return card is not None and card.max_outstanding is not None
