"""People as versions on a topic: names, records, when a version holds, and how votes use it."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec.people import (
    decode_people,
    decode_people_activation,
    digest_of,
    document_of,
    encode_people,
    encode_people_activation,
)
from mesh.core.activation import DELAY_MS, FROM_THE_BEGINNING
from mesh.core.people import People, Person, further_names, id_of, people_of, person_of, shared_names
from mesh.core.people_versions import PeopleActivation, PeopleTimeline
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

TOPICS = Topics("my.")
ANA = Person(id="Ana@example.org", names=("slack:U1",), roles=frozenset({"lead", "finance"}))
BEN = Person(id="ben@example.org", roles=frozenset({"finance"}))


def record(out: OutRecord, at_ms: int = 42) -> Record:
    return Record(out.topic, 0, 5, at_ms, out.key, out.value, out.headers)


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Ana@example.org", "ana@EXAMPLE.org", " slack:u1 ", "slack:U1", "ｓlack:U1"])  # noqa: RUF001 - NFKC
def test_a_person_is_found_by_each_of_their_names(name: str) -> None:
    people = people_of([ANA, BEN])
    assert (people.named(name), id_of(people, name)) == (ANA, "Ana@example.org")


def test_a_name_that_nobody_has_stays_as_it_is() -> None:
    people = people_of([ANA])
    assert (people.named("eve"), id_of(people, "Eve"), id_of(None, "Eve")) == (None, "Eve", "Eve")
    assert (further_names(people, "eve"), further_names(None, "ana@example.org")) == (frozenset(), frozenset())


def test_further_names_are_all_but_the_one_that_is_asked_for() -> None:
    people = people_of([ANA])
    assert further_names(people, "ana@example.org") == {"slack:u1"}
    assert further_names(people, "SLACK:U1") == {"ana@example.org"}


def test_who_holds_what_and_who_has_further_names() -> None:
    people = people_of([ANA, BEN])
    assert people.held_roles == {"lead", "finance"}
    assert people.roles == {ANA.id: ANA.roles, BEN.id: BEN.roles}
    assert (people.has_further_names, people_of([BEN]).has_further_names) == (True, False)


names = st.sampled_from(["a", "A", "b", "B", "ß", "ss", "SS", "x "])
persons = st.lists(st.builds(Person, id=names, names=st.lists(names, max_size=2).map(tuple)), max_size=4)


@given(persons)
def test_a_shared_name_is_found_exactly_where_two_people_have_it(some: list[Person]) -> None:
    own = [{person_of(name) for name in (person.id, *person.names)} for person in some]
    pairs = [(n, m) for n in range(len(some)) for m in range(n) if own[n] & own[m] and some[n].id != some[m].id]
    found = list(shared_names(some))
    assert bool(found) == bool(pairs)
    for shared in found:
        assert shared.one != shared.other


# Records ------------------------------------------------------------------------------------------


def test_a_version_comes_back_as_it_was_under_its_digest() -> None:
    people = people_of([BEN, ANA])
    out = encode_people(people, TOPICS)
    assert (out.topic, out.key, out.partition) == ("my.approvals.people", b"people/" + digest_of(people).encode(), 0)
    assert dict(out.headers)["ce_type"] == b"mesh.people"
    again = decode_people(record(out))
    assert again is not None
    assert (document_of(again), again.digest) == (document_of(people), digest_of(people))
    assert again.named("slack:u1") == ANA


def test_the_same_people_have_one_digest_in_any_order() -> None:
    twice = Person(id="x", names=("b", "a"), roles=frozenset({"r"}))
    same = Person(id="x", names=("a", "b"), roles=frozenset({"r"}))
    assert digest_of(people_of([twice, BEN])) == digest_of(people_of([BEN, same]))


def test_an_activation_comes_back_with_the_brokers_time() -> None:
    out = encode_people_activation("sha256:1", topics=TOPICS, activation_id="id", by="ops", at_ms=7, reason="new")
    assert (out.key, out.partition) == (b"activation/id", 0)
    assert decode_people_activation(record(out)) == PeopleActivation(
        id="id", people="sha256:1", by="ops", at_ms=42, reason="new"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"{}"), (b"key/1", b"{}"), (b"people/sha256:1", None), (b"activation/x", None), (b"delegation/1", b"x")],
)
def test_other_records_and_tombstones_are_passed_over(key: bytes | None, value: bytes | None) -> None:
    found = Record("my.approvals.people", 0, 5, 1, key, value, ())
    assert (decode_people(found), decode_people_activation(found)) == (None, None)


def stored(document: Any, key: bytes | None = None) -> Record:
    people = people_of([])
    own = key or b"people/" + digest_of(people).encode()
    return Record("my.approvals.people", 0, 5, 1, own, orjson.dumps(document), ())


@pytest.mark.parametrize("document", [1, {}, {"people": []}, {"people": {"a": {"roles": 1}}}])
def test_what_is_no_version_under_its_key_says_where_it_is(document: Any) -> None:
    with pytest.raises(MalformedRecord, match=r"version of the people .*offset 5 does not hold"):
        decode_people(stored(document))


def test_a_version_under_another_digest_is_refused() -> None:
    with pytest.raises(MalformedRecord, match="not what its key says"):
        decode_people(stored({"people": {"ana": {}}}))


def test_a_version_in_which_two_people_share_a_name_is_refused_and_names_both() -> None:
    out = encode_people(people_of([ANA, Person(id="cem", names=("SLACK:u1",))]), TOPICS)
    with pytest.raises(MalformedRecord, match=r"Ana@example\.org and cem share the name SLACK:u1"):
        decode_people(record(out))


@pytest.mark.parametrize("value", [b"1", b"{}", b'{"people": 1, "by": "x"}', b"nothing"])
def test_what_is_no_activation_under_its_key_says_where_it_is(value: bytes) -> None:
    with pytest.raises(MalformedRecord, match=r"activation of people .*offset 5 does not hold"):
        decode_people_activation(Record("my.approvals.people", 0, 5, 1, b"activation/x", value, ()))


# When a version holds -----------------------------------------------------------------------------


def timeline(*at_ms: int) -> PeopleTimeline:
    found = PeopleTimeline()
    for one in at_ms:
        found.add(PeopleActivation(id=f"a{one}", people=str(one), by="ops", at_ms=one))
    return found


def version_at(found: PeopleTimeline, at_ms: int) -> str | None:
    placed = found.at(at_ms)
    return None if placed is None else placed.activation.people


def test_a_topic_without_an_activation_says_nothing() -> None:
    empty = timeline()
    assert (empty.is_empty, empty.at(10), empty.latest(), empty.all()) == (True, None, None, [])


def test_the_first_version_holds_from_the_beginning_and_each_other_after_the_delay() -> None:
    found = timeline(10_000, 20_000)
    assert [one.since_ms for one in found.all()] == [FROM_THE_BEGINNING, 20_000 + DELAY_MS]
    times = (0, 10_000, 20_000 + DELAY_MS - 1, 20_000 + DELAY_MS)
    assert [version_at(found, at_ms) for at_ms in times] == ["10000", "10000", "10000", "20000"]
    latest = found.latest()
    assert latest is not None
    assert latest.activation.people == "20000"
    assert not found.is_empty


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=6), st.integers(0, 60_000))
def test_what_holds_at_a_time_is_not_changed_by_what_comes_later(activated: Sequence[int], at_ms: int) -> None:
    """Whatever the broker's clock does: an activation after the answer's time less the delay."""
    for known in range(1, len(activated)):
        if all(later + DELAY_MS > at_ms for later in activated[known:]):
            assert version_at(timeline(*activated[:known]), at_ms) == version_at(timeline(*activated), at_ms)


def test_an_empty_version_is_a_version() -> None:
    out = encode_people(People(), TOPICS)
    assert decode_people(record(out)) == people_of([], digest=digest_of(People()))
