"""What a checkpoint keeps of an owner's progress is what the log's fold says of it."""

import itertools

import pytest

from mesh.core.events import Cause, Decision, InputAttempted, StepGivenUp
from mesh.core.replay import PartitionFold
from mesh.services.router.batch import Batch
from mesh.services.router.confirmed_state import Confirmed

ANNOUNCED = InputAttempted(topic="mesh.inbox", offset=3)
KINDS = ("announces", "decides", "fires", "marks")


def batch(kind: str, positions: dict[str, int]) -> Batch:
    """One decision: an announcement, one on an input, one on a timer, or a mark."""
    made = Batch()
    events = {"announces": (ANNOUNCED,), "marks": ()}.get(kind, (StepGivenUp(step="s", reason="r"),))
    made.positions = positions
    made.decisions = [
        Decision(
            epoch="e",
            workflow_id="",
            at_ms=1,
            cause=Cause(kind="timer", id="t"),
            positions=positions,
            mark=0,
            events=events,
            sequence=0,
        )
    ]
    return made


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=3)))
def test_confirmed_progress_is_the_folds(kinds: tuple[str, ...]) -> None:
    fold, confirmed, offset = PartitionFold(0), Confirmed(), 3
    fold.takeovers = confirmed.takeovers = 2
    for number, kind in enumerate(kinds):
        offset += kind == "decides"
        made = batch(kind, {"mesh.inbox": offset})
        if number == 0:  # what came before has these positions
            fold.state.positions = confirmed.partition.positions = {"mesh.inbox": 3}
        fold._note_progress(made.decisions[0])
        fold.state.positions = made.positions
        confirmed.take(made, [(number, 1)], number + 1)
        assert (confirmed.attempted, confirmed.takeovers) == (fold.attempted, fold.takeovers)
