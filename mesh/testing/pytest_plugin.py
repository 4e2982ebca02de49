"""The pytest plugin: the fixture `mesh_kit`, and `--regen`.

Where agent-mesh is installed, pytest finds and loads the plugin in every run. So it must not import
anything of the mesh until a test uses the fixture.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mesh.testing.kit import MeshKit


def pytest_addoption(parser: pytest.Parser) -> None:
    with suppress(ValueError):  # another plugin has defined the option, with the same meaning
        parser.addoption(
            "--regen",
            action="store_true",
            help="rewrite the files that results are compared with (golden transcripts); review the diff",
        )


@pytest.fixture
def mesh_kit(request: pytest.FixtureRequest) -> Iterator["MeshKit"]:
    """A mesh for one test, in virtual time, with routes and played agents and people.

    docs/testing-routes.md shows how to use it.
    """
    from mesh.testing.kit import MeshKit  # noqa: PLC0415 - as the module says

    kit = MeshKit(
        title=_title(request.node.name),
        folder=request.path.parent,
        root=request.config.rootpath,
        regen=bool(request.config.getoption("--regen", default=False)),
    )
    with kit:
        yield kit


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what happened in the mesh when a test fails."""
    report = yield
    kit = getattr(item, "funcargs", {}).get("mesh_kit")
    if report.when == "call" and report.failed and kit is not None:
        report.sections.append(("what happened in the mesh", kit.transcript()))
    return report


def _title(name: str) -> str:
    """Turn `test_a_big_refund_asks_a_person[42]` into a heading."""
    words = name.removeprefix("test_").replace("_", " ").strip()
    return words[:1].upper() + words[1:]
