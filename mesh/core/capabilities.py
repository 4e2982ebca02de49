"""Capabilities: the contract that a step may name in an agent's stead, and the choice of an agent
for one task.

Owns the choice as a function of the directory and the task's id: it needs no state, so load spreads
and replay needs nothing, for the event records who was chosen. Liveness only ranks: an agent that
is scaled to zero is chosen all the same, and its task waits on its topic. `mesh.core.deciding`
calls it; `mesh.inspection.checks.report` holds routes against contracts.
"""

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from mesh.core import ids
from mesh.core.route import Route, capabilities_of
from mesh.core.state import Directory


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever asks for a capability may send, and what comes back.

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
    directory: Directory, capability: str, task_id: str, *, attempt: int = 1, did: str = "", failed: str = ""
) -> Choice | None:
    """An agent for this attempt; None where nobody is registered.

    Before all others the one that `did` what is to be undone; then those that are alive; then any
    but the one that has `failed`; then by rendezvous hash of the task's id (Thaler and Ravishankar,
    1998), so that of a task's candidates each is as likely, and the one that comes or goes moves
    only its own share.
    """
    known = directory.chosen.get(ids.attempt_id(task_id, attempt))
    if known is not None:
        return Choice(known, f"capability {capability}: {known}, as it was chosen before")
    names = directory.registered.get(capability, ())
    if not names:
        return None
    agent = max(
        names, key=lambda name: (name == did, name in directory.alive, name != failed, _weight(task_id, name), name)
    )
    alive = "alive" if agent in directory.alive else "not alive"
    because = ", which did it" if agent == did else f", instead of {failed}" if failed not in ("", agent) else ""
    return Choice(agent, f"capability {capability}: {agent}, {alive}, of {len(names)}{because}")


def _weight(task_id: str, agent: str) -> bytes:
    return sha256(f"{task_id}\n{agent}".encode("utf-8", "surrogatepass")).digest()


def nobody(capability: str) -> str:
    """What to do where no agent is registered."""
    return (
        f'no agent is registered for the capability {capability}: start one that has it (@agent(NAME, capabilities=["{capability}"]); '
        "`mesh agents` lists who has which), then retry"
    )


def stand_ins(route: Route) -> dict[str, tuple[str, ...]]:
    """As `Directory.registered`: for each capability one that no agent can be called like, for who
    asks what would be dispatched where no agents are known.
    """
    return {capability: (f"capability {capability}",) for capability in capabilities_of(route)}
