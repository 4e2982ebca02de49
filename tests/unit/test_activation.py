"""Which version is in effect when.

No router matches an event before it knows all that bears on it.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec.definitions import decode_activation, encode_activation
from mesh.core.activation import DELAY_MS, FROM_THE_BEGINNING, Activation, Timeline, known_until_ms
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record


def activation(at_ms: int, routes: dict[str, str | None], *, beginning: bool = False) -> Activation:
    return Activation(id=f"a{at_ms}", routes=routes, by="ana", at_ms=at_ms, beginning=beginning)


def timeline(*activations: Activation) -> Timeline:
    made = Timeline()
    for one in activations:
        made.add(one)
    return made


def test_an_activation_takes_effect_a_delay_after_the_broker_took_it() -> None:
    t = timeline(activation(1_000, {"a": "one", "b": "one"}), activation(9_000, {"a": "two"}))
    assert t.at(1_000 + DELAY_MS - 1) == {}
    assert t.at(1_000 + DELAY_MS) == {"a": "one", "b": "one"}
    assert t.at(9_000 + DELAY_MS - 1) == {"a": "one", "b": "one"}
    assert t.at(9_000 + DELAY_MS) == {"a": "two", "b": "one"}


def test_the_first_of_all_holds_from_the_beginning_and_no_later_one_does() -> None:
    assert timeline().is_empty
    t = timeline(activation(5_000, {"a": "one"}, beginning=True), activation(5_001, {"b": "one"}, beginning=True))
    assert not t.is_empty
    assert t.at(0) == {"a": "one"}
    assert t.at(5_001 + DELAY_MS) == {"a": "one", "b": "one"}
    assert t.latest()["a"].since_ms == FROM_THE_BEGINNING


def test_a_withdrawn_route_is_in_effect_no_more_and_is_known_to_be_withdrawn() -> None:
    t = timeline(activation(0, {"a": "one", "b": "one"}, beginning=True), activation(10, {"a": None}))
    assert t.at(10 + DELAY_MS) == {"b": "one"}
    assert {name: change.digest for name, change in t.latest().items()} == {"a": None, "b": "one"}


def test_a_clock_that_was_put_back_moves_no_activation_before_those_that_were_there() -> None:
    t = timeline(activation(9_000, {"a": "one"}), activation(1_000, {"a": "two"}))
    assert t.at(9_000 + DELAY_MS - 1) == {}
    assert t.at(9_000 + DELAY_MS) == {"a": "two"}


def test_a_routes_history_has_its_changes_alone() -> None:
    first, second, third = (
        activation(1, {"a": "one"}),
        activation(2, {"a": "one", "b": "x"}),
        activation(3, {"a": "two"}),
    )
    t = timeline(first, second, third, activation(4, {"a": None}))
    assert [(c.digest, c.activation.id) for c in t.history("a")] == [("one", "a1"), ("two", "a3"), (None, "a4")]
    assert t.history("c") == []


def test_an_activation_is_found_by_its_id() -> None:
    t = timeline(activation(1, {"a": "one"}), activation(2, {"b": "one"}))
    found = t.find("a2")
    assert found is not None
    assert (found.activation.routes, found.since_ms) == ({"b": "one"}, 2 + DELAY_MS)
    assert t.find("a3") is None


_TIMES = st.lists(st.integers(0, 12_000), max_size=8, unique=True)


@given(_TIMES, st.lists(st.integers(0, 14_000), min_size=1, max_size=12), st.data())
def test_what_a_router_may_match_is_matched_as_one_that_knows_all_would(
    activated: list[int], events: list[int], data: st.DataObject
) -> None:
    """The broker's clock runs from activation to event to activation.

    A router reads events at its own pace, and refreshes only when the rule says so.
    """
    all_of_them = [activation(at_ms, {"a": str(at_ms)}) for at_ms in sorted(activated)]
    whole, known = timeline(*all_of_them), Timeline()
    taken, until_ms, now_ms, refreshes = 0, 0, 0, 0
    for at_ms in sorted(events):
        now_ms = max(now_ms, at_ms + data.draw(st.integers(0, 3_000), label="read so late"))
        if at_ms >= until_ms:
            refreshes += 1
            while taken < len(all_of_them) and all_of_them[taken].at_ms <= now_ms:
                known.add(all_of_them[taken])
                taken += 1
            until_ms = max(until_ms, known_until_ms(at_ms))
        assert known.at(at_ms) == whole.at(at_ms)
    assert refreshes <= 1 + max(events) // (known_until_ms(0))


# --- bytes ----------------------------------------------------------------------------------------


def record(key: bytes | None, value: bytes | None, at_ms: int = 7) -> Record:
    return Record("mesh.definitions", 0, 5, at_ms, key, value, ())


def test_an_activation_comes_back_with_the_brokers_time() -> None:
    out = encode_activation(
        {"a": "sha256:1", "b": None},
        topics=Topics("my."),
        activation_id="id",
        by="ana",
        at_ms=1,
        beginning=True,
        reason="because",
    )
    assert (out.topic, out.key, out.partition) == ("my.definitions", b"activation/id", 0)
    assert dict(out.headers)["ce_type"] == b"mesh.route-activation"
    assert decode_activation(record(out.key, out.value, 42)) == Activation(
        id="id", routes={"a": "sha256:1", "b": None}, by="ana", at_ms=42, beginning=True, reason="because"
    )


@pytest.mark.parametrize(("key", "value"), [(None, b"{}"), (b"sha256:00", b"{}"), (b"activation/x", None)])
def test_other_records_and_tombstones_are_no_activation(key: bytes | None, value: bytes | None) -> None:
    assert decode_activation(record(key, value)) is None


@pytest.mark.parametrize("value", [b"{", b"{}", b'{"routes": {"a": 1}, "by": "ana"}', b"\xff"])
def test_what_is_no_activation_under_its_key_says_where_it_is(value: Any) -> None:
    with pytest.raises(
        MalformedRecord, match=r"the route activation mesh\.definitions, partition 0, offset 5 does not hold"
    ):
        decode_activation(record(b"activation/x", value))
