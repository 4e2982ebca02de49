"""A router's routes: what it makes active at its start.

It knows all that bears on a batch before it matches the batch.
"""

from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.codec.definitions import encode_activation, encode_definition
from mesh.core.activation import DELAY_MS
from mesh.core.matching import Match
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, OperatorError, TopicMissing, UnknownFormat
from mesh.ports import OutRecord, TopicPartition, TopicSpec
from mesh.routes.compiler import compile_route
from mesh.services.definitions import DefinitionsReader, activate
from mesh.services.router.definitions import Definitions

TOPICS = Topics()
START_MS = 1_000_000


class SetClock:
    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms


class Counting:
    """Tokens in order."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def token(self) -> str:
        self.count += 1
        return f"{self.name}-{self.count}"


class Watched(MemoryBroker):
    """Counts its calls for the topic's end."""

    asked = 0

    async def end_offsets(self, partitions: Any) -> Any:
        self.asked += 1
        return await super().end_offsets(partitions)


class Mesh:
    def __init__(self) -> None:
        self.clock = SetClock()
        self.cluster = MemoryCluster(self.clock)
        self.cluster.create_topics([TopicSpec(TOPICS.definitions, 1)])
        self.routers = 0

    def router(self) -> tuple[Definitions, Watched]:
        self.routers += 1
        broker = Watched(self.cluster, f"router-{self.routers}")
        name = f"r{self.routers}"
        return Definitions(broker, TOPICS, instance=name, clock=self.clock, entropy=Counting(name)), broker

    async def started(self, *routes: Route) -> Definitions:
        definitions, _ = self.router()
        await definitions.start(routes)
        return definitions

    async def apply(self, *routes: Route, withdraw: str = "") -> None:
        """As an operator does."""
        broker = self.cluster.connect("operator")
        known = DefinitionsReader(broker, TOPICS)
        await known.start()
        await activate(
            known,
            broker,
            TOPICS,
            routes=routes,
            digests={withdraw: None} if withdraw else None,
            activation_id=f"op-{len(self.records())}",
            by="ana",
            at_ms=self.clock.ms,
        )

    def records(self) -> list[Any]:
        return list(self.cluster.records(TopicPartition(TOPICS.definitions, 0)))

    def land(self, *records: OutRecord) -> None:
        self.cluster.land(TopicPartition(TOPICS.definitions, 0), records)


def route(name: str, agent: str = "x") -> Route:
    return compile_route(
        {"route": name, "on": {"type": "t"}, "key": "${{ event.id }}", "steps": {"a": {"agent": agent, "input": 1}}}
    )


OLD, NEW = route("a", "old"), route("a", "new")


def digests(definitions: Definitions, at_ms: int) -> list[str]:
    found = definitions.at(at_ms).match({"id": "1", "type": "t", "source": "/s"})
    return [match.route.digest for match in found if isinstance(match, Match)]


async def test_the_first_routers_routes_hold_for_what_was_published_before_it() -> None:
    mesh = Mesh()
    definitions, _ = mesh.router()
    begun = [definitions.has_begun]
    assert await definitions.start([OLD, route("b")]) == 0
    assert [*begun, definitions.has_begun] == [False, True]
    assert definitions.names() == ["a", "b"]
    await definitions.prepare([0, 5])
    assert digests(definitions, 0) == [OLD.digest, route("b").digest]


async def test_a_later_routers_new_version_takes_effect_after_the_delay_and_all_routers_agree() -> None:
    mesh = Mesh()
    first = await mesh.started(OLD)
    mesh.clock.ms += 60_000
    second, _ = mesh.router()
    assert await second.start([NEW]) == DELAY_MS / 1000
    since = mesh.clock.ms + DELAY_MS
    for definitions in (first, second):
        await definitions.prepare([since - 1, since])
        assert digests(definitions, since - 1) == [OLD.digest]
        assert digests(definitions, since) == [NEW.digest]
        assert definitions.get(OLD.digest) == OLD


async def test_an_old_file_undoes_nothing_and_is_told_of() -> None:
    mesh = Mesh()
    await mesh.started(OLD)
    await mesh.apply(NEW)
    before = len(mesh.records())
    with capture_logs() as logs:
        definitions, _ = mesh.router()
        assert await definitions.start([OLD]) == 0
    assert len(mesh.records()) == before
    [said] = [log for log in logs if log["event"] == "route_file_not_active"]
    assert (said["route"], said["file_version"], said["active_version"]) == ("a", OLD.digest, NEW.digest)
    assert "mesh routes apply" in said["next"]


async def test_a_router_applies_what_was_never_stored_also_where_its_name_is_withdrawn() -> None:
    mesh = Mesh()
    await mesh.started(OLD)
    await mesh.apply(withdraw="a")
    with capture_logs() as logs:
        definitions = await mesh.started(OLD)
    assert [log["active_version"] for log in logs if log["event"] == "route_file_not_active"] == [
        "none: the route is withdrawn"
    ]
    assert definitions.names() == []
    assert (await mesh.started(NEW)).names() == ["a"]


async def test_a_version_that_is_stored_and_was_never_active_under_its_name_is_applied() -> None:
    mesh = Mesh()
    await mesh.started(route("b"))
    mesh.land(encode_definition(OLD, TOPICS))
    assert (await mesh.started(OLD)).names() == ["a", "b"]


async def test_a_router_without_files_runs_what_is_applied_and_one_with_others_says_what_runs_beside() -> None:
    mesh = Mesh()
    await mesh.started(OLD)
    with capture_logs() as logs:
        assert (await mesh.started()).names() == ["a"]
    assert logs == []
    with capture_logs() as logs:
        await mesh.started(route("b"))
    assert [log["routes"] for log in logs if log["event"] == "routes_active_beside_the_files"] == [["a"]]


async def test_a_batch_is_matched_without_asking_while_the_last_look_was_late_enough() -> None:
    mesh = Mesh()
    definitions, broker = mesh.router()
    await definitions.start([OLD])
    asked = broker.asked
    await definitions.prepare([])
    assert broker.asked == asked
    await definitions.prepare([START_MS])
    assert broker.asked == asked + 1
    await definitions.prepare([START_MS + 10, START_MS + 999])
    assert broker.asked == asked + 1
    await definitions.prepare([START_MS + 1_000])
    assert broker.asked == asked + 2


async def test_it_looks_again_after_a_while_of_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose clock was put back stamps everything with one time.

    Then timestamps say nothing.
    """
    mesh = Mesh()
    definitions, broker = mesh.router()
    await definitions.start([OLD])
    await definitions.prepare([START_MS])
    asked = broker.asked
    monkeypatch.setattr(definitions._lookout, "_began_s", -10.0)
    await definitions.prepare([START_MS])
    assert broker.asked == asked + 1


async def test_a_backlog_over_many_changes_meets_the_routes_of_its_times() -> None:
    mesh = Mesh()
    definitions = await mesh.started(OLD)
    versions = [OLD]
    for number in range(20):
        mesh.clock.ms += 10_000
        versions.append(route("a", f"v{number}"))
        await mesh.apply(versions[-1])
    times = [START_MS + DELAY_MS + 10_000 * number for number in range(21)]
    await definitions.prepare(times)
    assert [digests(definitions, at_ms) for at_ms in times] == [[version.digest] for version in versions]


async def test_workflows_of_an_earlier_version_are_offered_what_they_wait_for_after_it_is_gone() -> None:
    mesh = Mesh()
    waits = compile_route({**OLD.definition, "steps": {"a": {"wait": {"event": "paid"}}}})
    definitions = await mesh.started(waits)
    await mesh.apply(withdraw="a")
    paid = {"id": "1", "type": "paid", "source": "/s"}
    await definitions.prepare([START_MS, START_MS + DELAY_MS])
    [before], [after] = (definitions.at(at_ms).offers(paid) for at_ms in (START_MS, START_MS + DELAY_MS))
    assert (before.only_live, after.only_live) == (False, True)
    assert (after.workflow_id, after.route) == ("a:1", waits)


async def test_an_active_version_that_cant_be_read_here_is_not_passed_over() -> None:
    mesh = Mesh()
    definitions = await mesh.started(OLD)
    strange = OutRecord(TOPICS.definitions, b"sha256:99", b'{"route": "a", "new_key": 1}')
    mesh.land(strange)
    mesh.land(encode_activation({"a": "sha256:99"}, topics=TOPICS, activation_id="x", by="ana", at_ms=0))
    await definitions.prepare([START_MS])
    with pytest.raises(UnknownFormat, match=r"(?s)route a is active in version sha256:99, .* update this one"):
        await definitions.prepare([START_MS + DELAY_MS])
    mesh.land(encode_activation({"a": "sha256:98"}, topics=TOPICS, activation_id="y", by="ana", at_ms=0))
    with pytest.raises(UnknownFormat, match=r"it is not on mesh\.definitions"):
        await definitions.prepare([START_MS + DELAY_MS + 2_000])


async def test_records_that_say_nothing_are_passed_over() -> None:
    mesh = Mesh()
    definitions = await mesh.started(OLD)
    mesh.land(OutRecord(TOPICS.definitions, b"activation/x", b"{}"), OutRecord(TOPICS.definitions, b"other", b"{}"))
    with capture_logs() as logs:
        await definitions.refresh()
    assert [log["event"] for log in logs] == ["activation_unreadable"]
    assert definitions.names() == ["a"]
    await definitions.close()


async def test_what_the_broker_does_not_take_is_told() -> None:
    mesh = Mesh()
    mesh.cluster.max_record_bytes = 120
    definitions, _ = mesh.router()
    with pytest.raises(OperatorError, match="could not be stored"):
        await definitions.start([OLD])
    with pytest.raises(TopicMissing, match="mesh topics apply"):
        await DefinitionsReader(MemoryCluster(mesh.clock).connect("x"), TOPICS).start()


async def test_a_topic_that_cant_be_read_to_its_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh()
    await mesh.started(OLD)
    reader = DefinitionsReader(mesh.cluster.connect("x"), TOPICS)
    monkeypatch.setattr("mesh.adapters.memory.reader.MemoryReader.poll", _nothing)
    with pytest.raises(BrokerUnavailable, match="can't be read to its end"):
        await reader.start()


async def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []
