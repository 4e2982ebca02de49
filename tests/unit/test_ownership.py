"""Ownership, step by step; `test_ownership_model` explores it whole."""

import pytest

from mesh.core.events import Cause, Decision, LogRecord, OwnerChanged
from mesh.core.ownership import Epochs, Gap, Lost, Ownership, Phase


def change(token: str) -> OwnerChanged:
    return OwnerChanged(token=token, owner=f"router-{token}", partitions=1, format_level=1, at_ms=0)


def decision(epoch: str) -> Decision:
    cause = Cause(kind="mark", id="")
    return Decision(epoch=epoch, workflow_id="", at_ms=0, cause=cause, positions={}, mark=0, events=())


def epochs(*tokens: str) -> Epochs:
    found = Epochs()
    for token in tokens:
        found.observe(change(token))
    return found


def owning(in_flight: int = 0) -> Ownership:
    """Token me, whose `OwnerChanged` is at offset 9."""
    ownership = Ownership("me")
    ownership.claimed(9)
    assert ownership.caught_up(epochs("old", "me")) is None
    if in_flight:
        assert ownership.appending(in_flight) == 10
    return ownership


def test_a_token_counts_at_its_first_occurrence_only() -> None:
    found = Epochs()
    records: list[LogRecord] = [change("a"), decision("a"), change("b"), decision("a"), change("a"), decision("b")]
    assert [found.observe(record) for record in records] == [True, True, True, False, False, True]
    assert (found.seen(), found.current, found.has_seen("b")) == (["a", "b"], "b", True)


def test_epochs_may_go_on_from_a_checkpoint() -> None:
    found = Epochs(["a", "b"], "b")
    assert not found.observe(change("a"))
    assert found.observe(decision("b"))


def test_appends_are_expected_one_after_another() -> None:
    ownership = owning()
    assert (ownership.appending(2), ownership.appending(3), ownership.next_offset) == (10, 12, 15)
    assert ownership.acknowledged([(10, 2)]) == []
    assert (ownership.expected, ownership.in_flight, ownership.next_offset) == (12, 3, 15)
    assert ownership.acknowledged([(12, 3)]) == []


def test_an_owner_whose_token_is_not_in_force_is_none() -> None:
    ownership = Ownership("me")
    ownership.claimed(9)
    assert isinstance(ownership.caught_up(epochs("me", "other")), Lost)
    assert ownership.phase is Phase.LOST


def test_inert_records_in_a_gap_are_passed_over() -> None:
    ownership = owning(2)
    gaps = ownership.acknowledged([(11, 1), (14, 1)])
    assert gaps == [Gap(10, 11), Gap(12, 14)]
    assert ownership.gap_read(Gap(10, 11), [decision("old")]) is None
    assert ownership.gap_read(Gap(12, 14), [decision("old"), change("old")]) is None
    assert (ownership.phase, ownership.expected) == (Phase.OWNING, 15)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([change("other"), decision("other")], "router-other took over"),
        ([decision("old"), decision("me")], "the log has a decision of our own that was never acknowledged"),
        ([decision("old")], "the gap [10, 12) could not be read whole"),
    ],
)
def test_anything_else_in_a_gap_ends_the_ownership(records: list[LogRecord], reason: str) -> None:
    ownership = owning(1)
    assert ownership.acknowledged([(12, 1)]) == [Gap(10, 12)]
    assert ownership.gap_read(Gap(10, 12), records) == Lost(reason)
    assert ownership.phase is Phase.LOST
    assert ownership.gap_read(Gap(10, 12), []) == Lost("not owning: lost")


@pytest.mark.parametrize("span", [(9, 1), (-1, 1), (10, 0), (10, 3)])
def test_an_acknowledgement_that_cant_be_ends_the_ownership(span: tuple[int, int]) -> None:
    ownership = owning(2)
    assert isinstance(ownership.acknowledged([span]), Lost)
    assert ownership.acknowledged([(10, 1)]) == Lost("not owning: lost")


def test_nothing_is_done_out_of_turn() -> None:
    ownership = Ownership("0123456789")
    with pytest.raises(RuntimeError, match="ownership 01234567 is claiming, not owning"):
        ownership.appending(1)
    ownership.lose("a refusal")
    with pytest.raises(RuntimeError, match="is lost, not claiming"):
        ownership.claimed(1)
