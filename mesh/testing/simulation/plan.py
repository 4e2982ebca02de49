"""What one run is like: how many routers live how long, what fails, which routes are played.

The seed draws it. Owns the chances; `world` carries the plan out.
"""

import random
from typing import Final

import msgspec

from mesh.adapters.memory import WeakBehaviour
from mesh.core.signing import Level
from mesh.testing.simulation.heavy import HEAVY
from mesh.testing.simulation.routes import AGENTS, FIXED

_HEAVY: Final = 0.02  # of all runs: each takes two seconds longer
_DEADLY: Final = 0.05
_JUMPS: Final = 0.05
_PAUSES: Final = 0.3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is like. `Plan.of(seed)` draws it."""

    seed: int
    routers: int
    partitions: int
    workflows: int
    chaos_s: float
    calm_s: float = 400.0
    real_agents: bool = False  # real agent runtimes, with deaths of their own
    mean_life_s: float = 15.0  # of a router
    blackout_at_s: float | None = None  # all routers die
    blackout_s: float = 0.0  # ... and none lives for this long
    weak: WeakBehaviour
    kinds: tuple[str, ...]  # the fixed routes of this run: only a few, so that it goes deep into each
    drawn: int = 0  # routes drawn by the seed
    deadly: int = 0  # inputs that kill each router that reads them
    killers: float = 0.05  # of the tasks of real agents: each ends the process that works on it
    # of the clock that broker and routers share, on one machine: when, and by how many seconds
    jumps: tuple[tuple[float, float], ...] = ()
    heavy: tuple[str, ...] = ()  # routes whose events have large lists
    paused: float = 0.3  # of the lives of real agents: each is stopped for a time, and goes on
    pauses: bool = False  # operators pause workflows, routes and agents
    people_change: bool = False  # roles are granted and taken away
    # people sign, let others answer for them, and are away; there are working hours
    organised: bool = False
    answers: Level = "none"  # what each answer must bring
    outstanding: dict[str, int] = {}  # agent -> how many tasks it says it wants at once

    @property
    def is_put_back(self) -> bool:
        """Whether a clock is put back.

        Then nothing is activated: a topic's stamps stand still until the clock has caught up, each
        topic's at a time of its own, so that an activation may bear on events that were matched.
        """
        return any(by_s < 0 for _, by_s in self.jumps)

    @classmethod
    def of(cls, seed: int) -> "Plan":
        rng = random.Random(f"plan {seed}")  # noqa: S311 - a simulation's chance
        storm = rng.choice([0.0, 0.3, 1.0, 1.0, 2.0])
        has_blackout = rng.random() < 0.5
        return cls(
            seed=seed,
            routers=rng.choice([1, 2, 2, 3]),
            partitions=rng.choice([1, 2, 2, 3]),
            workflows=rng.randint(5, 14),
            chaos_s=rng.uniform(25, 60),
            real_agents=rng.random() < 0.2,
            mean_life_s=rng.choice([5.0, 15.0, 40.0]),
            blackout_at_s=rng.uniform(5, 25) if has_blackout else None,
            blackout_s=rng.uniform(5, 30),
            weak=WeakBehaviour(
                latency_s=rng.choice([(0.0, 0.002), (0.0, 0.05), (0.0, 0.4)]),
                lost_request=0.01 * storm,
                lost_acknowledgement=0.02 * storm,
                late_landing=0.01 * storm,
                give_up_s=rng.choice([0.5, 4.0]),
                late_by_s=rng.choice([1.0, 15.0]),
                lands_twice=0.05 * storm,
                split_append=0.3 * storm,
                failed_call=0.01 * storm,
                rebalance=0.005 * storm,
                undead=0.005 * storm,
            ),
            kinds=tuple(rng.sample(sorted(FIXED), rng.randint(1, 3))),
            drawn=rng.choice([1, 2, 3, 3]),
            outstanding={rng.choice(AGENTS): rng.randint(1, 2)} if rng.random() < 0.3 else {},
            people_change=rng.random() < 0.3,
            # what was drawn before these must not change: a seed is known by its run
            heavy=(rng.choice(sorted(HEAVY)),) if rng.random() < _HEAVY else (),
            deadly=2 if rng.random() < _DEADLY else 0,
            jumps=_draw_jumps(rng) if rng.random() < _JUMPS else (),
            pauses=rng.random() < _PAUSES,
        )


def _draw_jumps(rng: random.Random) -> tuple[tuple[float, float], ...]:
    """Forward by hours or back by minutes, now and then with a second jump that sets it right."""
    at_s, by_s = rng.uniform(5, 20), rng.choice([rng.uniform(3_600, 18_000), -rng.uniform(60, 240)])
    back = [(at_s + rng.uniform(2, 12), -by_s)] if rng.random() < 0.3 else []
    return ((at_s, by_s), *back)
