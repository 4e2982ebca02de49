"""Capabilities: a contract that a step may name instead of an agent, and the choice of an agent.

Owns the choice as a function of the directory and the task's id. It needs no state, so load spreads
evenly, and the event records the choice, so replay needs nothing. Liveness only ranks: an agent
that is scaled to zero may be chosen, and its task waits on its topic. `mesh.core.decide` calls it;
`mesh.inspection.checks.report` checks routes against contracts.
"""

from collections.abc import Collection
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from mesh.core import ids
from mesh.core.route import Route, capabilities_of
from mesh.core.state import Directory


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What a step may send for a capability, and what comes back.

    The schemas are JSON Schema.
    """

    capability: str
    input: dict[str, Any]
    output: dict[str, Any]
    description: str = ""


class Choice(NamedTuple):
    agent: str
    why: str  # for people


def choose(
    directory: Directory,
    capability: str,
    task_id: str,
    *,
    attempt: int = 1,
    did: str = "",
    failed: str = "",
    barred: Collection[str] = (),
) -> Choice | None:
    """An agent for this attempt, and none of the `barred`; None if no agent is registered.

    First the agent that `did` what is to be undone, then agents that are alive, then any but the
    one that `failed`, then by rendezvous hash of the task's id (Thaler and Ravishankar, 1998).
    """
    # deciding again what the log has decided must give the same choice
    known = directory.chosen.get(ids.attempt_id(task_id, attempt))
    if known is not None:
        return Choice(known, f"capability {capability}: {known}, as it was chosen before")
    names = [name for name in directory.registered.get(capability, ()) if name not in barred]
    if not names:
        return None
    # the name last, so that the order of the list never decides
    agent = max(
        names, key=lambda name: (name == did, name in directory.alive, name != failed, _weight(task_id, name), name)
    )
    alive = "alive" if agent in directory.alive else "not alive"
    because = ", which did it" if agent == did else f", instead of {failed}" if failed not in ("", agent) else ""
    return Choice(agent, f"capability {capability}: {agent}, {alive}, of {len(names)}{because}")


def _weight(task_id: str, agent: str) -> bytes:
    # by the hash each candidate is equally likely, and an agent that comes or goes moves only its
    # own share
    return sha256(f"{task_id}\n{agent}".encode("utf-8", "surrogatepass")).digest()


def nobody(capability: str) -> str:
    """The message for a capability that no agent is registered for."""
    return (
        f'no agent is registered for the capability {capability}: start one that has it (@agent(NAME, capabilities=["{capability}"]); '
        "`mesh agents` lists who has which), then retry"
    )


def stand_ins(route: Route) -> dict[str, tuple[str, ...]]:
    """One invented agent for each capability, in the form of `Directory.registered`.

    No real agent can have such a name. It lets a caller see what would be dispatched when no agents
    are known.
    """
    return {capability: (f"capability {capability}",) for capability in capabilities_of(route)}
