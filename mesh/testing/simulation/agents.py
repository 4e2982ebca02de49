"""Agents for the real agent runtime, whose handlers are slow, fail or hang by the seed.

Owns what their handlers do. `world` uses it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from mesh.agent.context import Context
from mesh.agent.decorator import agent
from mesh.agent.definition import Agent
from mesh.errors import NonRetryable
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.testing.simulation.routes import CAPABILITIES

SETTINGS: Final = AgentSettings(
    task_partitions=2,
    poll_s=2.0,
    watch_every_s=0.25,
    card_every_s=30.0,
    drain_s=3.0,
    revoke_drain_s=1.0,
    session_timeout_s=4.0,
)

_FOR_EVER_S: Final = 3600.0


def scripted_agent(
    name: str,
    *,
    seed: int,
    outstanding: int | None,
    killers: float,
    is_calm: Callable[[], bool],
    begins: Callable[[Context], None],
    kill: Callable[[Context], None],
) -> Agent[Any, Any]:
    """An agent whose work depends on the seed and the attempt alone.

    A share of the tasks, `killers`, `kill` its process each time that they are begun. Once the run
    is calm, the agent does everything well.
    """

    @agent(
        name,
        concurrency=4,
        max_outstanding=outstanding,
        capabilities=[capability for capability, agents in CAPABILITIES.items() if name in agents],
    )
    async def work(value: dict[str, Any], ctx: Context) -> dict[str, Any]:
        begins(ctx)
        if not is_calm():
            if random.Random(f"{seed} {ctx.task_id} kills").random() < killers:  # noqa: S311 - a simulation's chance
                kill(ctx)
                await asyncio.sleep(_FOR_EVER_S)
            draw = random.Random(f"{seed} {ctx.task_id} {ctx.attempt}").random()  # noqa: S311 - a simulation's chance
            if 0.3 < draw * 6 % 1 < 0.45:
                ctx.heartbeat()  # and never again
            await asyncio.sleep([0.0, 0.0, 0.05, 0.5, 3.0, 20.0][int(draw * 6)])
            if draw * 6 % 1 > 0.75:
                raise NonRetryable("never") if draw * 6 % 1 > 0.97 else OSError("the disk is full")
        return {"by": name, "attempt": ctx.attempt, "given": len(value)}

    return work
