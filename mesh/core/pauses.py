"""Pauses of agents and routes: how they are named, and what is paused where nothing is.

A target is `agent/<name>` or `route/<name>`. Each partition has a built-in workflow that holds its
pauses (docs/adr/0042-pauses-of-agents-and-routes.md), so that a decision is a function of its own
partition's log.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from mesh.core.state import Pause, Workflow

PAUSES: Final = "mesh.pauses"
"""What the workflows of pauses have in the place of a route. No route can be called so."""

NO_PAUSES: Final[Mapping[str, Pause]] = MappingProxyType({})
Kind = Literal["agent", "route"]
_AGENT: Final = "agent/"
_ROUTE: Final = "route/"


def paused_by(holder: Workflow | None) -> Mapping[str, Pause]:
    """What is paused, by the built-in workflow that holds a partition's pauses."""
    return NO_PAUSES if holder is None or holder.pauses is None else holder.pauses.paused


def agent_target(name: str) -> str:
    return _AGENT + name


def route_target(name: str) -> str:
    return _ROUTE + name


def target_of(kind: Kind, name: str) -> str:
    return f"{kind}/{name}"


def is_target(target: str) -> bool:
    """Whether it names an agent or a route."""
    kind, _, name = target.partition("/")
    return kind in ("agent", "route") and bool(name)


def kind_of(target: str) -> str:
    """`agent` or `route`."""
    return target.partition("/")[0]


def name_of(target: str) -> str:
    return target.partition("/")[2]


def words(target: str) -> str:
    """For people: `agent drafter`."""
    return target.replace("/", " ", 1)
