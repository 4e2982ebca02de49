"""The careful mode: what owners do with inputs that owners before them may have died of.

Owners live and die here on one partition's inputs, and the log keeps what each announced.
"""

import pytest

from mesh.core.events import InputAttempted
from mesh.core.replay import Attempt, attempt_after
from mesh.core.state import PartitionState
from mesh.core.topics import Topics
from mesh.ports import Record
from mesh.services.router.careful_mode import CAREFUL_AFTER, PATIENCE, CarefulMode, Place
from mesh.services.router.input_queues import InputQueues

TOPICS = Topics()


def record(offset: int) -> Record:
    return Record(TOPICS.results, 0, offset, 0, None, None, ())


class Log:
    """What the log of a partition keeps from one owner to the next."""

    def __init__(self) -> None:
        self.state = PartitionState()
        self.attempted: Attempt | None = None
        self.takeovers = 0
        self.aside: list[int] = []

    def announce(self, place: Place) -> None:
        self.attempted = attempt_after(self.attempted, InputAttempted(topic=place[0], offset=place[1]))

    def decide(self, offset: int) -> None:
        self.state.positions[TOPICS.results] = offset + 1
        self.attempted, self.takeovers = None, 0

    def life(self, deadly: set[int], end: int) -> bool:
        """One owner's life. False: it died."""
        self.takeovers += 1
        careful, inputs = CarefulMode(), InputQueues(0, TOPICS)
        careful.begin(self.takeovers, self.attempted)
        for offset in range(self.state.positions.get(TOPICS.results, 0), end):
            inputs.offer(record(offset))
        while inputs:
            taken = careful.next_input(inputs, self.state, self.attempted) if careful.is_on else inputs.heads()[0]
            assert taken is not None
            step = careful.step_for(taken, self.attempted) if careful.is_on else "decide"
            if step == "announce":
                careful.announced = (taken.topic, taken.offset)
                self.announce(careful.announced)
                continue
            if step == "set_aside":
                self.aside.append(taken.offset)
            elif taken.offset in deadly:
                return False
            self.decide(taken.offset)
            careful.end()
            inputs.of(taken.topic).popleft()
        return True


@pytest.mark.parametrize("deadly", [set(), {0}, {3}, {0, 1}, {2, 5}, set(range(6))])
def test_what_kills_owners_is_set_aside_and_nothing_else(deadly: set[int]) -> None:
    log, deaths = Log(), 0
    while not log.life(deadly, 6):
        deaths += 1
    assert log.aside == sorted(deadly)
    # the owner that came as far as this input, others until one is careful, and those on trial
    assert deaths <= len(deadly) * (CAREFUL_AFTER + PATIENCE)


def test_deaths_on_other_inputs_are_not_counted_against_one() -> None:
    log, other = Log(), (TOPICS.inbox, 7)
    for place in [(TOPICS.results, 0), other] * PATIENCE:
        log.announce(place)
    assert log.attempted == Attempt(*other)
    assert CarefulMode().step_for(record(0), log.attempted) == "announce"


def test_an_owner_that_lost_the_partition_did_not_die_of_what_it_had_announced() -> None:
    """The next one in the same process goes on with it, and announces nothing again."""
    log = Log()
    for _ in range(PATIENCE):
        log.announce((TOPICS.results, 0))
    for outlived, step in [((TOPICS.results, 0), "decide"), ((TOPICS.results, 1), "set_aside"), (None, "set_aside")]:
        careful = CarefulMode()
        careful.outlived = outlived
        careful.begin(CAREFUL_AFTER, log.attempted)
        assert careful.step_for(record(0), log.attempted) == step
    careful.begin(CAREFUL_AFTER, None)  # another process has dealt with it
    assert careful.announced is None
