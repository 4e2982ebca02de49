"""The trail of ingress: what a router leaves beside its position, and how the next one uses it."""

import pytest

from mesh.ports import Committed, Record, TopicPartition
from mesh.services.router.trail import PATIENCE, Trails, read_trail

PLACE = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)


def record(offset: int, place: TopicPartition = PLACE) -> Record:
    return Record(place.topic, place.partition, offset, 0, None, None, ())


def is_calm(trails: Trails) -> bool:
    return trails.is_calm


class Group:
    """What a broker keeps, and routers that live and die on it."""

    def __init__(self) -> None:
        self.kept: dict[TopicPartition, Committed | None] = {PLACE: None, OTHER: None}

    def life(self, deadly: set[int], end: int = 10, batch: int = 4) -> tuple[list[int], list[int]]:
        """One router's: what it copied, and what it set aside, until it died or was at the end.

        It commits what it has copied only before it touches the next batch.
        """
        trails, copied, aside = Trails(), list[int](), list[int]()
        trails.assign(self.kept)
        committed = self.kept[PLACE]
        at = committed.offset if committed is not None else 0
        while at < end:
            records = [record(offset) for offset in range(at, min(at + batch, end))]
            self.kept.update(trails.begin(records))
            for one in records:
                if trails.is_careful(one):
                    self.kept.update(trails.announce(one))
                if trails.is_poison(one):
                    aside.append(one.offset)
                elif one.offset in deadly:
                    return copied, aside
                else:
                    copied.append(one.offset)
            at = records[-1].offset + 1
            self.kept[PLACE] = trails.commit(PLACE, at)
        return copied, aside


@pytest.mark.parametrize("deadly", [set(), {0}, {3}, {4}, {9}, {0, 1}, {2, 7}, {3, 4, 5}, set(range(10))])
def test_what_kills_is_set_aside_and_nothing_else(deadly: set[int]) -> None:
    group, copied, aside, deaths = Group(), set[int](), list[int](), 0
    while True:
        some, poison = group.life(deadly)
        copied |= set(some)
        aside += poison
        committed = group.kept[PLACE]
        if committed is not None and committed.offset == 10:
            break
        deaths += 1
    assert copied == set(range(10)) - deadly
    assert aside == sorted(deadly)
    assert deaths <= (PATIENCE + 2) * len(deadly)
    assert committed == Committed(10)


def test_a_death_of_another_cause_sets_nothing_aside() -> None:
    group = Group()
    for _ in range(10):  # dies each time after some more, whatever that is
        trails = Trails()
        trails.assign(group.kept)
        committed = group.kept[PLACE]
        at = committed.offset if committed is not None else 0
        records = [record(offset) for offset in range(at, at + 4)]
        group.kept.update(trails.begin(records))
        assert not any(trails.is_poison(one) for one in records)
        for one in records[:2]:
            if trails.is_careful(one):
                group.kept.update(trails.announce(one))


def test_what_was_announced_and_read_did_not_kill() -> None:
    """However many routers die of something else behind it, it is not set aside."""
    group = Group()
    for _ in range(PATIENCE + 2):
        trails = Trails()
        trails.assign(group.kept)
        group.kept.update(trails.begin([record(0)]))
        assert not trails.is_poison(record(0))
        if trails.is_careful(record(0)):
            group.kept.update(trails.announce(record(0)))
            group.kept.update(trails.survived(record(0)))
    trails.revoke([PLACE])
    assert trails.survived(record(0)) == {}


def test_a_trail_is_written_once_for_each_assignment_and_partition() -> None:
    trails = Trails()
    trails.assign({PLACE: None, OTHER: Committed(3, '{"until":5}')})
    assert not is_calm(trails)
    begun = trails.begin([record(0), record(3, OTHER), record(1)])
    assert begun == {PLACE: Committed(0, '{"until":2}'), OTHER: Committed(3, '{"until":5}')}
    assert trails.begin([record(2), record(4, OTHER)]) == {}
    assert trails.is_careful(record(4, OTHER))
    assert not trails.is_careful(record(0))
    assert trails.commit(PLACE, 2) == Committed(2)
    assert trails.commit(OTHER, 4) == Committed(4, '{"until":5}')
    assert trails.commit(OTHER, 5) == Committed(5)
    assert is_calm(trails)
    trails.revoke([PLACE, OTHER])
    assert trails.begin([record(9)]) == {PLACE: Committed(9, '{"until":10}')}


@pytest.mark.parametrize("text", ["", "x", "[]", '{"until":"x"}', "3+4"])
def test_the_text_of_another_version_is_no_trail(text: str) -> None:
    assert read_trail(text) == read_trail("")
