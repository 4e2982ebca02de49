"""What an agent author and an upstream team import.

Loading it must load no broker client: `Client` and `connect` are loaded when they are first asked
for, so agents don't pay for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mesh.agent.approval import ApprovalNeeded, Verdict
from mesh.agent.context import Context
from mesh.agent.decorator import agent
from mesh.agent.definition import Agent
from mesh.agent.handover import HandOver
from mesh.agent.retry import Retry
from mesh.errors import MeshError, NonRetryable

if TYPE_CHECKING:
    from mesh.services.client import Client
    from mesh.wiring import connect

__all__ = [
    "Agent",
    "ApprovalNeeded",
    "Client",
    "Context",
    "HandOver",
    "MeshError",
    "NonRetryable",
    "Retry",
    "Verdict",
    "agent",
    "connect",
]

_LAZY: Final = {"Client": "mesh.services.client", "connect": "mesh.wiring"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mesh' has no attribute {name!r}")
