"""Whether agents take up their tasks, judged by their cards and by what they have begun.

Owns the findings about agents. A task under way is no task that waits: it is committed only with
its result, so that it is unread says nothing.

    nobody alive, tasks out               error: start the agent
    more tasks out than places            warning: they wait their turn
    a place is free, tasks not begun      error: the process lives, and takes nothing up
    replicas with different schemas       warning
"""

from collections.abc import Iterator, Sequence

from mesh.core.topics import Topics
from mesh.inspection.mesh_status.look import PATIENCE_MS
from mesh.inspection.mesh_status.spans import span, tasks
from mesh.inspection.mesh_status.values import AgentStatus, Stuck


def stuck_agents(agents: Sequence[AgentStatus], topics: Topics, now_ms: int, up_since_ms: int) -> list[Stuck]:
    """What is wrong with agents.

    `up_since_ms`: when the first of the living routers started. Agents may start with it, so they
    are given as long as that.
    """
    found: list[Stuck] = []
    for agent in agents:
        waited_ms = now_ms - agent.oldest_running_ms if agent.oldest_running_ms is not None else 0
        if agent.running and waited_ms >= PATIENCE_MS and now_ms - up_since_ms >= PATIENCE_MS:
            found += _with_tasks(agent, topics, now_ms, waited_ms)
        if agent.conflict is not None:
            next_step = f"let all replicas of {agent.name} run one version; until then tasks go to either"
            found.append(Stuck(severity="warning", what=str(agent.conflict), next_step=next_step))
    return found


def _with_tasks(agent: AgentStatus, topics: Topics, now_ms: int, waited_ms: int) -> Iterator[Stuck]:
    topic = topics.tasks(agent.name)
    if agent.lag is None:
        what = f"{tasks(agent.running)} for {agent.name}, and there is no topic {topic}"
        next_step = f"mesh topics apply --agent {agent.name}, and start the agent; the tasks that are out are lost, and end by their time-out"
        yield Stuck(severity="error", what=what, next_step=next_step)
    elif not agent.alive:
        yield from _nobody(agent, topic, now_ms, waited_ms)
    elif agent.overdue:
        yield from _behind(agent, topic)


def _nobody(agent: AgentStatus, topic: str, now_ms: int, waited_ms: int) -> Iterator[Stuck]:
    if agent.heard_at_ms is None and agent.has_consumed:
        return  # it has no cards, as agents in other languages may: whether it lives can't be told
    since = f"{'' if agent.running == 1 else ', the oldest'} for {span(waited_ms)}"
    last = f" ({agent.name} was last heard of {span(now_ms - agent.heard_at_ms)} ago)" if agent.heard_at_ms else ""
    what = f"{tasks(agent.running)}{since}: nobody alive consumes {topic}{last}"
    yield Stuck(severity="error", what=what, next_step=f"start the agent {agent.name}: mesh agent MODULE")


def _behind(agent: AgentStatus, topic: str) -> Iterator[Stuck]:
    # What is sent out counts as running, begun or not; what finds no place waits in the topic.
    waiting = min(agent.running - agent.places, agent.overdue)
    if waiting > 0:
        busy = f"its {agent.places:,} place{'s are' if agent.places > 1 else ' is'} taken"
        what = f"{tasks(waiting)} in {topic}, and {busy}"
        next_step = f"nothing, if that is expected; to be faster, run more replicas of {agent.name}"
        yield Stuck(severity="warning", what=what, next_step=next_step)
    elif agent.untaken:
        what = f"{agent.untaken:,} unread in {topic}: {agent.name} is alive and has room, and does not begin them"
        yield Stuck(severity="error", what=what, next_step=f"look at the log of {agent.name}; if in doubt, restart it")
