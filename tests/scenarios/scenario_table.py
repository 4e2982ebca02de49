"""The table of scenarios. docs/testing.md says how to add one.

Each is a plain function of the kit, and must read the same on every broker. Scenarios run in real
time too, so they use short durations. If one needs an order, it does one thing after the other: no
broker promises an order between events of one moment.
"""

from collections.abc import Callable
from typing import Any

from mesh.testing import MeshKit, Run

Scenario = Callable[[MeshKit], None]
SCENARIOS: dict[str, Scenario] = {}
LONG: list[str] = []


def scenario(play: Scenario) -> Scenario:
    """Enter it under its name; its docstring is the first line of its transcript."""
    name = play.__name__.replace("_", "-")
    assert name not in SCENARIOS, f"there are two scenarios named {name}"
    SCENARIOS[name] = play
    return play


def long_scenario(play: Scenario) -> Scenario:
    """A scenario that waits for a minute of a real clock.

    It is begun before all others, so that it takes no time of its own.
    """
    scenario(play)
    LONG.append(next(reversed(SCENARIOS)))
    return play


def begin(mesh: MeshKit, steps: dict[str, Any], *, data: Any = None, **more: Any) -> Run:
    """A route `r` with these steps, and the workflow `r:k` that an event begins.

    Agents come before it.
    """
    mesh.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps, **more})
    return mesh.publish(type="t", subject="k", data=data)
