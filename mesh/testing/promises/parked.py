"""Judges that nothing sound is set aside. Part of what `mesh.testing.promises.judge` checks."""

from collections.abc import Iterator
from typing import Final

from mesh.core.events import InputParked
from mesh.core.ids import partition_of_key
from mesh.testing.promises.ledger import Step

_PATIENCE: Final = 2
"""This many owners must have died on an input before it is set aside."""


def wrongly_parked(step: Step, event: InputParked, partitions: int) -> Iterator[str]:
    """Why a readable input must not be parked: fewer than two owners announced it and died.

    They must be others, of which nothing was heard again. An input whose effects are too large to
    send may always be parked, and so may a result that is another partition's.
    """
    given = step.partition.inputs.get((event.topic, event.offset))
    if event.code == "too_large" or given is None:
        return
    if event.code == "wrong_partition":
        if partition_of_key(given.workflow_id.encode(), partitions) == event.partition:
            yield "a result is parked, and this is its partition"
        return
    by = step.partition.attempted[event.topic, event.offset] - {step.decision.epoch}
    if event.code != "poison" or len(by) < _PATIENCE:
        yield f"a sound input is parked: {event.code}: {event.message}"
