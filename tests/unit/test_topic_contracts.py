"""`topics/` says what the code does, and the plan says what the broker lacks."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from ruamel.yaml import YAML

from mesh.adapters.memory import MemoryCluster
from mesh.codec.approvals import decode_response, encode_receipt, encode_request, encode_response
from mesh.codec.cloudevents import from_record
from mesh.codec.commands import decode_command, encode_command
from mesh.codec.effects import EffectEncoder
from mesh.codec.inbox import encode_inbox
from mesh.codec.log import encode_decision, encode_owner_changed
from mesh.core.effects import AskApproval, PublishOutcome
from mesh.core.events import Cause, Decision, OwnerChanged, StepBlocked
from mesh.core.inputs import CommandGiven
from mesh.core.receipts import SendReceipt
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, OperatorError, PartitionsDiffer
from mesh.ports import Broker, OutRecord, Record, TopicSpec
from mesh.services.topic_plan import CONTRACTS, Contract, apply, contracts, fixed_topics, plan, topic_specs
from mesh.settings import Settings
from topics import generate

TOPICS = Topics()
BY_NAME = {contract.name: contract for contract in contracts()}
NOT_TOPICS = {"prefix", "router_group", "notifier_group", "ingress_group"}


class StoppedClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


def broker() -> Broker:
    return MemoryCluster(StoppedClock()).connect("test")


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CONTRACTS / "schemas" / f"{name}.json").read_text())
    return document


@cache
def validator(name: str) -> Any:
    """What checks messages against a schema, which is checked itself once."""
    document = schema(name)
    kind = jsonschema.validators.validator_for(document)
    kind.check_schema(document)
    return kind(document)


# --- topics.yaml ----------------------------------------------------------------------------------


def test_every_topic_of_the_code_has_a_contract_and_no_other_has_one() -> None:
    of_code = {getattr(TOPICS, slot) for slot in Topics.__slots__ if slot not in NOT_TOPICS}
    assert {TOPICS.prefix + name for name in BY_NAME if name != "tasks"} == of_code
    assert BY_NAME["tasks"].per_agent


def test_groups_are_those_of_the_code() -> None:
    assert {contract.group for contract in contracts()} == {None, "ingress", "router", "agent", "notifier"}
    assert (TOPICS.ingress_group, TOPICS.router_group, TOPICS.notifier_group, TOPICS.agent_group("x")) == (
        "mesh.ingress",
        "mesh.router",
        "mesh.notifier",
        "mesh.agent.x",
    )


def test_trust_boundaries_hold() -> None:
    """An agent can't forge an answer, a command or a route; a decision has one kind of writer."""
    may_write = {name: set(contract.writers) for name, contract in BY_NAME.items()}
    assert [name for name, writers in may_write.items() if "agent" in writers] == ["results", "agents", "dlq"]
    assert may_write["log"] == may_write["inbox"] == may_write["tasks"] == {"router"}
    assert may_write["approvals.notices"] == {"notifier"}
    assert [name for name, writers in may_write.items() if "notifier" in writers] == ["approvals.notices"]
    assert may_write["approvals.responses"] == {"approver", "console"}
    assert may_write["commands"] == {"operator", "console", "router"}
    # who may deploy a route must not be able to grant a role
    assert may_write["approvals.people"].isdisjoint(may_write["definitions"])


def test_workflows_partitions_are_fixed_and_equal() -> None:
    assert fixed_topics(TOPICS) == {TOPICS.inbox, TOPICS.results, TOPICS.log, TOPICS.keys}
    assert {BY_NAME[name].partitions for name in ("inbox", "results", "log", "keys")} == {"mesh"}


def test_every_topic_has_the_brokers_timestamps_and_its_retention() -> None:
    for contract in contracts():
        assert contract.config["message.timestamp.type"] == "LogAppendTime"
        assert ("retention.ms" in contract.config) != (contract.config["cleanup.policy"] == "compact")
    assert BY_NAME["log"].config["retention.ms"] == "-1"


def test_what_the_mesh_sends_fits_where_it_goes() -> None:
    largest = str(Settings.model_fields["max_record_bytes"].default)
    for name in ("inbox", "log", "tasks", "approvals.requests", "outcomes", "dlq"):
        assert BY_NAME[name].config["max.message.bytes"] == largest


def test_a_contracts_file_that_does_not_hold_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="install agent-mesh again"):
        contracts(tmp_path)
    (tmp_path / "topics.yaml").write_text("defaults: {config: {}}\ntopics: [{name: x, config: {}}]\n")
    with pytest.raises(OperatorError, match="missing required field `description`"):
        contracts(tmp_path)


# --- specs, plan, apply ---------------------------------------------------------------------------


def test_specs_have_every_topic_and_one_for_each_agent() -> None:
    specs = {spec.name: spec for spec in topic_specs(Topics("a.b."), 8, ["one", "two"], task_partitions=3)}
    assert len(specs) == len(BY_NAME) + 1
    assert (specs["a.b.log"].partitions, specs["a.b.events"].partitions) == (8, 8)
    assert (specs["a.b.tasks.one"].partitions, specs["a.b.tasks.two"].partitions, specs["a.b.commands"].partitions) == (
        3,
        3,
        1,
    )
    assert "min.insync.replicas" not in specs["a.b.log"].config


def test_three_replicas_acknowledge_by_two() -> None:
    assert {(spec.replicas, spec.config["min.insync.replicas"]) for spec in topic_specs(TOPICS, 1, [], replicas=3)} == {
        (3, "2")
    }


async def test_apply_creates_what_the_plan_calls_missing_and_then_nothing_differs() -> None:
    there = broker()
    specs = topic_specs(TOPICS, 4, ["classifier"])
    before = await plan(there, specs, topics=TOPICS)
    assert {difference.kind for difference in before} == {"missing"}
    assert [difference.topic for difference in before] == [spec.name for spec in specs]
    assert await apply(there, specs, topics=TOPICS) == before
    assert await plan(there, specs, topics=TOPICS) == []
    assert await apply(there, specs, topics=TOPICS) == []


async def test_another_partition_count_of_the_log_stops_apply_before_it_creates_anything() -> None:
    there = broker()
    await there.create_topics([TopicSpec("mesh.log", 8)])
    with pytest.raises(PartitionsDiffer) as caught:
        await apply(there, topic_specs(TOPICS, 16, []), topics=TOPICS)
    assert str(caught.value) == (
        "mesh.log: 8 partitions, wanted 16; set MESH_PARTITIONS=8, which is what this mesh began with; "
        "for another count begin a new mesh under another MESH_TOPIC_PREFIX"
    )
    assert set(await there.topics()) == {"mesh.log"}


async def test_what_an_operator_may_judge_is_shown_and_left_alone() -> None:
    there = broker()
    await there.create_topics(
        [TopicSpec("mesh.commands", 3), TopicSpec("mesh.dlq", 1, config={"retention.ms": "1", "other": "x"})]
    )
    found = [
        str(each) for each in await apply(there, topic_specs(TOPICS, 2, []), topics=TOPICS) if each.kind != "missing"
    ]
    assert found == [
        "mesh.commands: 3 partitions, wanted 1; it works as it is",
        "mesh.dlq: 1 partition, wanted 4; it works as it is; to raise it: kafka-topics.sh --alter --topic mesh.dlq --partitions 4",
        (
            "mesh.dlq: retention.ms=1, wanted retention.ms=7776000000; "
            "kafka-configs.sh --alter --entity-type topics --entity-name mesh.dlq --add-config retention.ms=7776000000"
        ),
    ]
    assert (await there.topics())["mesh.dlq"].partitions == 1


# --- what is derived ------------------------------------------------------------------------------


DERIVED = generate.files()


@pytest.mark.parametrize("path", DERIVED, ids=lambda path: str(path.name))
def test_derived_files_are_as_the_code_makes_them(path: Path) -> None:
    assert path.read_text() == DERIVED[path], "run `python -m topics.generate`"


def test_every_message_has_a_schema_that_is_one() -> None:
    for name in {message for contract in contracts() for message in contract.messages} - {"dead-letter"}:
        assert isinstance(validator(name), jsonschema.Draft202012Validator)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def test_the_asyncapi_document_has_every_topic_and_no_dangling_reference() -> None:
    document = YAML(typ="safe", pure=True).load(CONTRACTS / "asyncapi.yaml")
    addresses = {channel["address"]: channel for channel in document["channels"].values()}
    assert set(addresses) == {f"mesh.{name}" for name in BY_NAME if name != "tasks"} | {"mesh.tasks.{agent}"}
    for reference in references(document):
        file, _, pointer = reference.partition("#")
        target = json.loads((CONTRACTS / file).read_text()) if file else document
        for part in filter(None, pointer.split("/")):
            target = target[part]
    for name, contract in BY_NAME.items():
        directions = {operation["action"] for operation in operations_on(document, contract)}
        assert directions == {"send", "receive"}, name


def operations_on(document: dict[str, Any], contract: Contract) -> list[dict[str, Any]]:
    channel = next(
        key
        for key, each in document["channels"].items()
        if re.sub(r"\.\{agent\}$", "", each["address"]) == f"mesh.{contract.name}"
    )
    return [each for each in document["operations"].values() if each["channel"]["$ref"] == f"#/channels/{channel}"]


# --- schemas and codecs agree ---------------------------------------------------------------------

WORKFLOW = "triage:1"
ENCODER = EffectEncoder(TOPICS, 0, 1)
COMMAND = encode_command(
    topics=TOPICS, command="retry", workflow_id=WORKFLOW, by="op", command_id="c", at_ms=1, step="draft"
)
WRITTEN: list[tuple[str, OutRecord]] = [
    (
        "log-record",
        encode_decision(
            Decision(
                epoch="e",
                workflow_id=WORKFLOW,
                at_ms=1,
                cause=Cause(kind="timer", id="t"),
                positions={},
                mark=0,
                events=(StepBlocked(step="s", reason="r"),),
            ),
            topic="mesh.log",
            partition=0,
        ),
    ),
    (
        "log-record",
        encode_owner_changed(
            OwnerChanged(token="t", owner="o", partitions=1, format_level=1, at_ms=1), topic="mesh.log", partition=0
        ),
    ),
    (
        "inbox",
        encode_inbox(
            CommandGiven(
                workflow_id=WORKFLOW,
                source_topic="mesh.commands",
                source_partition=0,
                source_offset=1,
                source_at_ms=1,
                command_id="c",
                command="cancel",
                by="op",
            ),
            topic="mesh.inbox",
            partition=0,
        ),
    ),
    (
        "approval-request",
        encode_request(
            AskApproval(
                workflow_id=WORKFLOW,
                route="triage",
                step="s",
                approval_id=f"{WORKFLOW}/r/s",
                question="?",
                payload=None,
                payload_schema=None,
                digest="d",
                role="r",
                on_expiry="reject",
                deadline_at_ms=None,
                at_ms=1,
                traceparent="",
            ),
            topics=TOPICS,
        ),
    ),
    (
        "approval-receipt",
        encode_receipt(
            SendReceipt(
                workflow_id=WORKFLOW,
                approval_id="a",
                answer_id="",
                status="closed",
                code="expired",
                message="",
                verdict="rejected",
                closed=True,
                by="",
                at_ms=1,
            ),
            topics=TOPICS,
        ),
    ),
    (
        "approval-response",
        encode_response(
            topics=TOPICS,
            approval_id=f"{WORKFLOW}/r/s",
            decision="approve",
            by="ana",
            answer_id="n",
            at_ms=1,
            digest="d",
            reason="r",
            payload={"a": 1},
        ),
    ),
    ("command", COMMAND),
    (
        "outcome",
        ENCODER.encode(
            PublishOutcome(
                workflow_id=WORKFLOW,
                run_id="r",
                route="triage",
                status="failed",
                reason="",
                output=None,
                at_ms=1,
                traceparent="",
            )
        ),
    ),
]


@pytest.mark.parametrize(("name", "written"), WRITTEN, ids=[name for name, _ in WRITTEN])
def test_what_the_code_writes_holds_to_its_schema_and_is_an_event(name: str, written: OutRecord) -> None:
    validator(name).validate(orjson.loads(written.value or b""))
    event = from_record(Record(written.topic, 0, 0, 0, written.key, written.value, written.headers))
    validator("event").validate(event)


HOLDS = {
    "approval_id": f"{WORKFLOW}/r/s",
    "decision": "approve",
    "by": "ana",
    "command": "retry",
    "workflow_id": WORKFLOW,
}
VALUES: dict[str, list[Any]] = {
    "decision": ["approved", "x", 1],
    "by": ["", " ", None, 7],
    "digest": ["d", None, 7],
    "reason": ["r", None, 7],
    "payload": [None, {"a": 1}],
    "step": ["s", None, 7],
    "command": ["cancel", "x"],
    "workflow_id": ["x", 7],
    "approval_id": ["", 7],
    "colour": ["red"],
    "target": ["agent/a", "route/a/b", "agent/", "agents/a", "a", "", None, 7],
    "to": ["", None, 7, "sha256:12", "sha256:" + "a" * 64],
}
FIELDS = {"approval-response": ("approval_id", "decision", "by"), "command": ("command", "workflow_id", "by")}


@pytest.mark.parametrize("name", FIELDS)
def test_a_schema_refuses_what_the_codec_refuses_and_nothing_else(name: str) -> None:
    whole = {field: HOLDS[field] for field in FIELDS[name]}
    documents = [whole, *({key: value for key, value in whole.items() if key != left_out} for left_out in whole)]
    documents += [{**whole, field: value} for field, values in VALUES.items() for value in values]
    documents += [{**whole, "command": "migrate", "to": value} for value in VALUES["to"]]
    pause = {**whole, "command": "pause", "workflow_id": "mesh.pauses:0"}
    documents += [pause, *({**pause, "target": value} for value in VALUES["target"])]
    documents += [{**pause, "target": "route/r", "command": command} for command in ("resume", "cancel")]
    documents += [{**pause, "target": "route/r", "workflow_id": name} for name in (WORKFLOW, "mesh.pauses:1")]
    decode = decode_response if name == "approval-response" else decode_command
    checked = validator(name)
    for document in documents:
        record = Record("t", 0, 0, 0, None, orjson.dumps(document), ())
        try:
            decode(record)
        except MalformedRecord:
            taken = False
        else:
            taken = True
        assert checked.is_valid(document) is taken, document


@pytest.mark.parametrize(
    ("codec", "is_named"), [("zstd", False), ("producer", False), ("gzip", False), ("brotli", True)]
)
async def test_a_codec_that_the_mesh_can_not_read_is_named(codec: str, is_named: bool) -> None:
    there = broker()
    await there.create_topics([TopicSpec("mesh.events", 2, config={"compression.type": codec})])
    found = [one for one in await plan(there, topic_specs(TOPICS, 2, []), topics=TOPICS) if one.kind == "codec"]
    assert [one.topic for one in found] == ["mesh.events"] * is_named
    if is_named:
        assert "compression.type=brotli, wanted a codec that the mesh can read; this version" in str(found[0])


async def test_a_codec_whose_library_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.services.topic_plan.find_spec", lambda _: None)
    there = broker()
    await there.create_topics([TopicSpec("mesh.events", 2, config={"compression.type": "zstd"})])
    found = [one for one in await plan(there, topic_specs(TOPICS, 2, []), topics=TOPICS) if one.kind == "codec"]
    assert "cramjam is lacking" in str(found[0])
