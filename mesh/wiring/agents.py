"""Agents as a process."""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.adapters.system import SystemClock
from mesh.agent.definition import Agent
from mesh.agent.modules import import_agents_module
from mesh.agent.registry import agents_in
from mesh.core.topics import Topics
from mesh.errors import OperatorError
from mesh.observed import observe
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.settings import (
    Settings,
)
from mesh.wiring.brokers import check_rights, open_broker
from mesh.wiring.process import beat_until_cancelled, one_error

if TYPE_CHECKING:
    from mesh.services.agent_runtime.runtime import AgentRuntime


def load_agents(modules: Sequence[str]) -> list[Agent[Any, Any]]:
    """The agents of some modules, by dotted name.

    Raises `OperatorError` for a module that isn't there or has none.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    agents: list[Agent[Any, Any]] = []
    for name in modules:
        module = import_agents_module(name)
        found = agents_in(module)
        if not found:
            raise OperatorError(f"module {name} defines no agent: decorate a function with `@agent(...)`")
        agents.extend(agent for agent in found if agent not in agents)
    return agents


async def run_agents(settings: Settings, modules: Sequence[str]) -> None:
    """Run the modules' agents in this process until SIGTERM or SIGINT."""
    from mesh.services.agent_runtime.runtime import run_agents as serve  # noqa: PLC0415 - a router does not need it

    agents = load_agents(modules)
    names = "+".join(agent.name for agent in agents)
    observed = observe(settings, names)
    broker = await open_broker(settings.broker, client_id=f"{names}-{settings.instance}", settings=settings)
    runtimes: list[AgentRuntime] = []
    beating = asyncio.create_task(beat_until_cancelled(settings, partial(_agents_wait_for, runtimes)))
    topics = Topics(settings.topic_prefix)
    try:
        own = [topics.tasks(agent.name) for agent in agents]
        await check_rights(broker, settings, [*own, topics.results, topics.agents, topics.dlq])
        await serve(
            broker,
            agents,
            topics=topics,
            clock=SystemClock(),
            instance=settings.instance,
            settings=AgentSettings(
                task_partitions=settings.task_partitions,
                task_replicas=settings.replicas,
                task_topic_config=partial(_task_topic_config, settings.replicas),
                poll_records=settings.batch_records,
                card_every_s=settings.card_interval_s,
                drain_s=settings.drain_timeout_s,
                session_timeout_s=settings.session_timeout_s,
            ),
            tracer=observed.tracer,
            metering=observed.metering,
            on_runtimes=runtimes.extend,
        )
    except BaseExceptionGroup as group:
        raise one_error(group) from group
    finally:
        beating.cancel()
        await broker.close()
        await observed.close()


def _task_topic_config(replicas: int) -> dict[str, str]:
    from mesh.services.topic_plan import task_topic_config  # noqa: PLC0415 - most find their topic, and read no contract

    return task_topic_config(replicas)


def _agents_wait_for(runtimes: "Sequence[AgentRuntime]") -> str:
    if not runtimes:
        return "its agents have not started yet"
    return "; ".join(f"{one.agent.name}: {one.waits_for}" for one in runtimes if one.waits_for)
