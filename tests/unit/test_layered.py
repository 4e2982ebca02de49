"""Large mappings in layers: what a dict would hold, and little to copy for each change."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_partition import Partition, Quick, agent, route

from mesh.codec.state import canonical_workflow, encode_workflow
from mesh.core.decide.settle import budget
from mesh.core.layered import Layered, changed, keys_where
from mesh.core.replay import replay
from mesh.core.state import StepState

CHANGES = st.lists(
    st.dictionaries(st.integers(0, 150).map(str), st.integers(), min_size=1, max_size=3), min_size=1, max_size=60
)


def numbers(count: int) -> dict[str, int]:
    return {str(number): number for number in range(count)}


@given(count=st.integers(55, 120), changes=CHANGES)
def test_every_version_is_the_dict_that_it_stands_for(count: int, changes: list[dict[str, int]]) -> None:
    versions: list[tuple[Mapping[str, int], dict[str, int]]] = [(numbers(count), numbers(count))]
    for change in changes:
        mapping, plain = versions[-1]
        versions.append((changed(mapping, change), {**plain, **change}))
    # the earlier ones too, after all that came later
    for mapping, plain in versions:
        assert len(mapping) == len(plain)
        assert mapping == plain
        assert plain == mapping
        assert list(mapping) == list(plain)
        assert list(mapping.items()) == list(plain.items())
        assert list(mapping.values()) == list(plain.values())
        assert [mapping.get(str(number), -1) for number in range(151)] == [
            plain.get(str(number), -1) for number in range(151)
        ]


def is_even(key: str, value: int) -> bool:
    return int(key) % 3 == 0 and value % 2 == 0


def is_new(key: str, value: int) -> bool:
    return str(value) != key


@given(count=st.integers(0, 120), changes=CHANGES)
def test_every_version_tells_which_entries_something_holds_for_in_their_order(
    count: int, changes: list[dict[str, int]]
) -> None:
    versions: list[tuple[Mapping[str, int], dict[str, int]]] = [(changed(numbers(count), {}), numbers(count))]
    for number, change in enumerate(changes):
        mapping, plain = versions[-1]
        after = changed(mapping, change)
        versions.append((after, {**plain, **change}))
        # asked between the changes too, so that what is remembered is older than the version asked
        if number % 2:
            keys_where(after, is_even)
    for mapping, plain in versions:
        for holds in (is_even, is_new):
            assert keys_where(mapping, holds) == [key for key, value in plain.items() if holds(key, value)]


def test_a_small_mapping_is_a_plain_dict() -> None:
    assert type(changed({}, {"a": 1})) is dict


def test_a_layered_mapping_reads_as_a_dict() -> None:
    large = changed(changed(numbers(200), {"new": 0}), {"7": 70})
    assert isinstance(large, Layered)
    assert large
    assert (large["7"], large["8"], large["new"]) == (70, 8, 0)
    assert "new" in large
    assert "199" in large
    assert "200" not in large
    assert large.get("200") is None
    with pytest.raises(KeyError, match="200"):
        large["200"]
    assert repr(large) == repr({**numbers(200), "new": 0, "7": 70})
    assert large == changed(changed(numbers(200), {"7": 70}), {"new": 0})
    assert large != numbers(200)
    assert not Layered({}, {})


# A for-each --------------------------------------------------------------------------------------


def ran(items: int, **rest: Any) -> Partition:
    """A for-each of this length, from its start to its end."""
    for_each = {"items": "${{ event.data }}", "concurrency": 40}
    p = Quick(route({"a": agent("x", "${{ item }}", for_each=for_each)}, **rest))
    p.start(data=[1] * items)
    for index in range(items):
        p.succeed(f"a[{index}]", index)
    return p


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries were copied by each change of a large mapping."""
    counts: list[int] = []
    original = Layered.changed

    def count(self: Layered[StepState], changes: Mapping[str, StepState]) -> Layered[StepState]:
        after = original(self, changes)
        counts.append(len(after._top) or len(after._base))
        return after

    monkeypatch.setattr(Layered, "changed", count)
    return counts


def copied_in(items: int, copied: list[int]) -> float:
    """Entries copied for each item, in a replay of a whole for-each of this length."""
    records = ran(items).records()
    copied.clear()
    state = replay(records)
    assert state.workflows["r:k"].status == "completed"
    return sum(copied) / items


def test_four_times_the_items_are_about_four_times_the_work(copied: list[int]) -> None:
    few, many = copied_in(400, copied), copied_in(1600, copied)
    # the square root of the length: a whole copy for each event would be four times as much
    assert many < 2.6 * few
    assert many < 1600 / 4


def looked_at(items: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Steps that a budget looks at for each item of a for-each of this length."""
    count = 0

    def counting(place: str, step: StepState) -> bool:
        nonlocal count
        count += 1
        return step.status == "held"

    with monkeypatch.context() as patch:
        patch.setattr(budget, "_is_held", counting)
        ran(items, budget={"tokens": 1e9})
    return count / items


def test_a_budget_looks_at_what_has_changed_and_seldom_at_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = looked_at(400, monkeypatch), looked_at(1600, monkeypatch)
    assert many < 2.6 * few
    assert many < 1600 / 4


def test_a_large_state_is_saved_and_folded_as_any_other() -> None:
    p = Partition(route({"a": agent("x", "${{ item }}", for_each="${{ event.data }}")}))
    p.start(data=list(range(90)))
    for index in range(50):
        p.succeed(f"a[{index}]", index)
    workflow = p.workflow()
    assert isinstance(workflow.steps, Layered)
    plain = msgspec.structs.replace(workflow, steps=dict(workflow.steps))
    assert encode_workflow(workflow) == encode_workflow(plain)
    assert canonical_workflow(workflow) == canonical_workflow(plain)
    p.check_replay()


def test_only_what_a_state_can_hold_is_written() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    with pytest.raises(NotImplementedError, match="object has no place in a state"):
        encode_workflow(msgspec.structs.replace(p.workflow(), reason=object()))
