"""Simulation: whole meshes in virtual time, with every fault that the architecture allows for.

There is one run for each seed.

    python -m mesh.testing.simulation 7 --verbose    one run again, with its transcript
    python -m mesh.testing.simulation 0 300          many

plan, world     the course of a run: routers' lives, blackouts, calm, the end
parties         upstream, agents, approvers, operators, a module for each, on common ground
repertoire      what they play: some of the fixed routes
cluster         the memory broker, with eyes
transcript      what happened

`mesh.testing.promises.judge` judges a run. docs/testing.md says what is modelled and how to add to
it.
"""

from mesh.testing.simulation.plan import Plan
from mesh.testing.simulation.runs import Outcome, simulate
from mesh.testing.simulation.world import World

__all__ = ["Outcome", "Plan", "World", "simulate"]
