"""The agents that a process has defined.

Two agents of one name are found when they are defined, not when they take each other's tasks. Owns
the one table. Only agents at a module's top level are in it. An agent that a function makes (in a
test, say) belongs to that function.
"""

from types import ModuleType
from typing import Any

from mesh.agent.definition import Agent
from mesh.errors import AgentError

_agents: dict[str, Agent[Any, Any]] = {}


def register(agent: Agent[Any, Any]) -> None:
    """Add a new agent.

    The same function again (a reload) replaces itself. Raises `AgentError` if another one has the
    name.
    """
    if "<locals>" in agent.handler.__qualname__:
        return
    other = _agents.get(agent.name)
    if other is not None and _source(other) != _source(agent):
        raise AgentError(
            f"{place(agent.handler)}: an agent named {agent.name!r} is already defined at {place(other.handler)} "
            "(give one of them another name: agents of one name share their tasks)"
        )
    _agents[agent.name] = agent


def agents_in(module: ModuleType) -> list[Agent[Any, Any]]:
    """The agents that a module defines or imports, in the order of their names there, each once."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Agent)}
    return list(found.values())


def place(handler: Any) -> str:
    """`file:line: function`, for messages."""
    code = getattr(handler, "__code__", None)
    name = getattr(handler, "__qualname__", repr(handler))
    return f"{code.co_filename}:{code.co_firstlineno}: {name}" if code is not None else str(name)


def _source(agent: Agent[Any, Any]) -> tuple[str, str]:
    return agent.handler.__code__.co_filename, agent.handler.__qualname__
