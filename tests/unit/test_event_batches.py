"""Batches of events: each event of one fares as if it had come alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_mesh import EventMesh

from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.event_batches import MAX_EVENTS, members_of
from mesh.errors import MalformedRecord
from mesh.inspection.event_status import EventFate, fate_of
from mesh.inspection.read_model import ReadModel, model_path, queries
from mesh.ports import Header, Record
from mesh.services.router import ingress
from mesh.testing import MeshKit

BATCH: Header = ("content-type", b"application/cloudevents-batch+json")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def mesh() -> Iterator[EventMesh]:
    with MeshKit() as kit:
        yield EventMesh(kit)


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": name, "source": "/shop", "type": "order.placed", "data": {"n": 1}, **more}


def batch(*events: Any, more: tuple[Header, ...] = ()) -> Record:
    return Record("mesh.events", 0, 7, 0, b"key", json.dumps(events).encode(), (BATCH, *more))


def test_a_malformed_event_is_a_dead_letter_of_its_own_and_the_others_go_on(mesh: EventMesh) -> None:
    odd = event("odd", time="yesterday")
    mesh.send(batch(event("a"), odd, event("b"), 5, event("c")))
    assert sorted(mesh.started()) == ["a", "b", "c"]
    first, second = mesh.letters()
    assert first.code == second.code == "malformed"
    assert json.loads(first.original.value or b"") == odd
    assert "event 2 of the batch: " in first.message
    assert "attribute `time` is 'yesterday'" in first.message
    assert (first.original.offset, first.original.key) == (second.original.offset, b"key")
    assert second.original.value == b"5"
    assert "event 4 of the batch: " in second.message
    with pytest.raises(MalformedRecord, match="`time`"):
        from_record(first.original)


def test_a_batch_that_comes_again_starts_nothing_again(mesh: EventMesh) -> None:
    mesh.send(batch(event("a"), event("b"), event("a")), batch(event("b"), event("c")))
    mesh.send(batch(event("a"), event("b"), event("a")))
    assert sorted(mesh.started()) == ["a", "b", "c"]


def test_each_event_of_a_batch_passes_the_watermark_once_for_each_route() -> None:
    with MeshKit() as kit:
        for name in ("one", "two"):
            kit.route({"route": name, "on": {"type": "order.placed"}, "key": "k", "steps": {"a": {"wait": "1d"}}})
        mesh = EventMesh(kit)
        mesh.send(batch(*(event(f"e{number}") for number in range(5))))
        seen = [
            (heard.decision.cause.source_offset, heard.decision.cause.source_index)
            for heard in kit.stage.heard
            if heard.decision.cause.kind == "event"
        ]
        assert sorted(seen) == [(0, index) for index in range(15)]  # two routes with one key each, and EventMesh's


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_not_all_copies_are_held_at_once(mesh: EventMesh, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(ingress, "_MAX_COPIES", limit)
    mesh.send(batch(event("a"), event("b")), batch(event("c")), batch(event("d"), 1, event("e")))
    assert sorted(mesh.started()) == ["a", "b", "c", "d", "e"]
    assert len(mesh.letters()) == 1


def test_what_is_no_batch_is_one_dead_letter_as_it_came(mesh: EventMesh) -> None:
    wrong = [
        (b'{"id": "a"}', "the batch is not a JSON array"),
        (b"[", "the batch is not JSON"),
        (b"", "the batch is not JSON"),
        (json.dumps([0] * (MAX_EVENTS + 1)).encode(), f"the batch has {MAX_EVENTS + 1} events"),
    ]
    mesh.send(*(Record("mesh.events", 0, 0, 0, None, value, (BATCH,)) for value, _ in wrong))
    letters = mesh.letters()
    assert [letter.original.value for letter in letters] == [value for value, _ in wrong]
    for letter, (_, message) in zip(letters, wrong, strict=True):
        assert message in letter.message


def test_an_empty_batch_is_no_event_and_no_dead_letter(mesh: EventMesh) -> None:
    mesh.send(batch(), batch(event("a")))
    assert mesh.started() == ["a"]
    assert mesh.letters() == []


def test_an_event_of_a_batch_is_as_if_it_had_come_alone() -> None:
    whole = event("a", retries=3, tenantId="x", datacontenttype="text/plain", data="hello")
    [member] = members_of(batch(whole, more=(("traceparent", TRACE.encode()), ("ce_id", b"other"))))
    out = to_record({**whole, "traceparent": TRACE}, topic="t")
    assert from_record(member) == from_record(Record("t", 0, 0, 0, None, out.value, out.headers))
    assert (member.offset, member.key) == (7, b"key")


def test_data_of_the_greatest_depth_is_taken_in_a_batch_too() -> None:
    deep: Any = 0
    for _ in range(128):
        deep = [deep]
    [member] = members_of(batch(event("a", data=deep)))
    assert from_record(member)["data"] == deep


def test_each_event_of_a_batch_can_be_asked_for(mesh: EventMesh, tmp_path: Path) -> None:
    mesh.send(batch(event("a"), event("b", time="yesterday"), event("c", type="other"), event("d")), batch(), batch(7))
    fates: list[EventFate] = []
    counts: dict[str, int] = {}

    async def ask() -> None:
        broker, topics = mesh.kit.stage.broker, mesh.kit.stage.topics
        async with ReadModel(broker, topics, model_path(tmp_path, "memory://", "mesh.")) as model:
            await model.catch_up()
            fates.extend([await fate_of(broker, topics, model, row) for row in queries.events(model.db)])
            counts.update(queries.count_events(model.db, topics.events))

    mesh.kit.act(ask())
    where = f"mesh.events/{fates[0].event.partition}"
    found = {one.event.event_id: (one.fate.kind, one.fate.message) for one in fates}
    assert {name: kind for name, (kind, _) in found.items()} == {
        "a": "decided",
        "b": "dead_lettered",
        "c": "unwanted",
        "d": "decided",
        f"{where}/2/1": "dead_lettered",
    }
    for name in ("a", "d"):
        [started] = next(one.fate.workflows for one in fates if one.event.event_id == name)
        assert started.workflow_id.endswith(f"+{name}")
    assert "event 2 of the batch: " in found["b"][1]
    assert counts == {"seen": 2, "matched": 1, "dead_lettered": 1}
