"""Whole meshes in which every workflow is private keep all promises, whatever fails.

What a private route may not do is allowed here: it has no bearing on seals, take-overs and
checkpoints, and so every kind of step is under them.
"""

from collections.abc import Iterator, Mapping

import pytest

from mesh.routes import compiler
from mesh.routes.problems import Part
from mesh.testing.simulation import simulate
from mesh.testing.simulation.repertoire import _fixed


def always(root: Part, steps: Mapping[str, Part]) -> bool:
    return True


@pytest.fixture
def all_private(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every route that is compiled in the test is private, and none that is compiled outside it."""
    monkeypatch.setattr(compiler, "private_of", always)
    _fixed.cache_clear()
    yield
    _fixed.cache_clear()


@pytest.mark.usefixtures("all_private")
@pytest.mark.parametrize("seed", [*range(6), 30])
def test_sealed_workflows_are_decided_on_as_open_ones_are(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.findings == [], outcome.transcript
    assert outcome.counts["take-overs"] > 0
    assert outcome.counts["completed"] > 0
