"""What an agent author and an upstream team import. Loading it must load no broker client; `Client` is loaded when it is first asked for."""

from importlib import import_module
from typing import Any

from mesh.agent.context import Context
from mesh.agent.decorator import agent
from mesh.agent.definition import Agent
from mesh.errors import MeshError, NonRetryable

__all__ = ["Agent", "Client", "Context", "MeshError", "NonRetryable", "agent"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        return import_module("mesh.services.client").Client
    raise AttributeError(f"module 'mesh' has no attribute {name!r}")
