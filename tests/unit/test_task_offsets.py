"""What a commit says of tasks that end in any order."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.ports import Committed
from mesh.services.agent_runtime.offsets import MAX_METADATA_CHARS, TaskOffsets


def done_by(committed: Committed, upto: int) -> set[int]:
    """The offsets below `upto` that a new owner would not do again."""
    fresh = TaskOffsets(committed)
    return {offset for offset in range(upto) if offset < committed.offset or not fresh.begin(offset)}


def test_nothing_begun_commits_where_the_group_stood() -> None:
    assert TaskOffsets(Committed(7)).committed() == Committed(7)
    assert TaskOffsets().committed() == Committed(0)


def test_the_example_of_the_docstring() -> None:
    offsets = TaskOffsets(Committed(4))
    for offset in range(4, 10):
        assert offsets.begin(offset)
    for offset in (5, 6, 8):
        offsets.finish(offset)
    assert offsets.committed() == Committed(4, "t1:1+2,1+1")


def test_all_done_commits_past_the_last_one() -> None:
    offsets = TaskOffsets()
    for offset in (0, 1, 5):
        assert offsets.begin(offset)
        offsets.finish(offset)
    assert offsets.committed() == Committed(6)


def test_a_record_read_twice_is_begun_once() -> None:
    offsets = TaskOffsets()
    assert offsets.begin(0)
    assert not offsets.begin(0)
    offsets.finish(0)
    assert not offsets.begin(0)


def test_done_ahead_is_kept_until_it_is_read_again() -> None:
    before = Committed(4, "t1:1+2,1+1")
    assert TaskOffsets(before).committed() == before
    offsets = TaskOffsets(before)
    assert offsets.begin(4)
    offsets.finish(4)
    assert offsets.committed() == Committed(7, "t1:1+1")


def test_metadata_that_is_not_ours_is_passed_over() -> None:
    for text in ("", "hello", "t2:1+1", "t1:", "t1:x", "t1:1+", "t1:-1+1", "t1:" + "z" * 2000 + "+1"):
        assert TaskOffsets(Committed(4, text)).begin(4), text


def test_metadata_stays_within_what_a_broker_takes() -> None:
    offsets = TaskOffsets()
    for offset in range(20_000):
        assert offsets.begin(offset)
    for offset in range(1, 20_000, 2):
        offsets.finish(offset)
    committed = offsets.committed()
    assert committed.offset == 0
    assert 3_900 < len(committed.metadata) <= MAX_METADATA_CHARS
    done = done_by(committed, 20_000)
    assert done == set(range(1, 2 * len(done), 2)), "the lowest are the ones that are kept"


@given(st.data())
def test_no_done_task_is_done_again_and_no_other_is_lost(data: st.DataObject) -> None:
    exists = sorted(data.draw(st.sets(st.integers(0, 60)), "the offsets that hold records"))
    done: set[int] = set()
    committed: Committed | None = None
    for _ in range(data.draw(st.integers(1, 4), "owners one after another")):
        offsets = TaskOffsets(committed)
        start = committed.offset if committed is not None else 0
        begun: list[int] = []
        for offset in [offset for offset in exists if offset >= start][: data.draw(st.integers(0, 60), "read")]:
            is_new = offsets.begin(offset)
            assert is_new == (offset not in done)
            if is_new:
                begun.append(offset)
        for offset in data.draw(st.permutations(begun))[: data.draw(st.integers(0, len(begun)), "finished")]:
            offsets.finish(offset)
            done.add(offset)
        committed = offsets.committed()
        assert len(committed.metadata) <= MAX_METADATA_CHARS
        redo = {offset for offset in exists if offset not in done_by(committed, 100)}
        assert redo == set(exists) - done
