"""What all tests share: plugins, readable failures in contract suites, and Hypothesis profiles.

Examples are the same in every run, so that a run says something about the change and not about the
draw. To look for new ones: `HYPOTHESIS_PROFILE=explore make coverage`. `make check` draws few.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from mesh.inspection import mesh_status

pytest_plugins = ["fixtures_kafka", "fixtures_mesh", "fixtures_simulation", "mesh.testing.pytest_plugin", "pytester"]
UNIT = Path(__file__).parent / "unit"
LONG = ("slow", "deep")
AROUND_THE_CORE: Final = (
    "agent_",
    "archive",
    "chart",
    "cli",
    "client",
    "console",
    "contract_changes",
    "couriers",
    "doctor",
    "gateway",
    "issue_triage",
    "kafka",
    "kept_tasks",
    "kit",
    "log_import",
    "memory",
    "notice",
    "notifier",
    "pages",
    "redrive",
    "sqlite",
    "start_up",
    "status_of",
    "virtual_time",
)
"""How the names of test files begin whose tests run the core and are not about its branches.

Tracing them would double their time. `make coverage` fails if one of them is needed after all: then
it is in `ALSO_OF_THE_CORE`.
"""
ALSO_OF_THE_CORE: Final = {"cli_delegations"}

pytest.register_assert_rewrite("mesh.testing.broker_contract")

for name in (
    "COLUMNS",
    "LINES",
):  # pytest-xdist gives its workers a terminal's size, and the commands that tests run have none
    os.environ.pop(name, None)

# Not timed: the machine may be busy.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("same"), max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the unit tests, those that take long begin first. So no core waits for them at the end.

    Coverage passes over those that are not about the core, and over the deep ones: every branch has
    a quick test.
    """
    for item in items:
        name = item.path.stem.removeprefix("test_")
        is_around = item.path.parent == UNIT and name.startswith(AROUND_THE_CORE) and name not in ALSO_OF_THE_CORE
        if is_around or item.get_closest_marker("deep"):
            item.add_marker("no_cover")
    items.sort(key=lambda item: not (item.path.is_relative_to(UNIT) and any(map(item.get_closest_marker, LONG))))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector passes over it, and looks less often at the rest.

    It took an eighth of a simulation's CPU. Commands of `mesh` do the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture
def regen(pytestconfig: pytest.Config) -> bool:
    """Whether to write the files that hold what a test expects."""
    return bool(pytestconfig.getoption("--regen"))


@pytest.fixture(scope="module", autouse=True)
def looks_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """In unit tests, what looks stuck is not looked at again for seconds.

    No process of their meshes renews its card meanwhile. `test_second_look.py` is about it.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.is_relative_to(UNIT):
            patch.setattr(mesh_status, "SECOND_LOOK_S", 0.0)
        yield
