"""What foreign producers and damaged disks leave on a real broker.

On each topic that the mesh reads from others: what was committed counts, what can't be decoded is a
dead letter, and nothing waits.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka_foreign import ForeignProducers, damage
from mesh_processes import MeshProcesses

from infra.kafka.kafka import KafkaProcess
from mesh.ports import Header, TopicPartition

ANA = "ana@example.org"
ROUTE = """\
route: letter
on: {type: com.example.letter}
key: ${{ event.subject }}
steps:
  work: {agent: one, input: "${{ event.data }}"}
  look: {needs: work, approval: {ask: Well?, payload: "${{ steps.work }}", role: editor, deadline: 1h, on_expiry: reject}}
output: {text: "${{ steps.look.payload.text }}"}
"""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ENV = {"MESH_PARTITIONS": "1", "MESH_TASK_PARTITIONS": "1"}


class OnePartition(MeshProcesses):
    """A mesh whose topics have one partition, so that everything meets everything."""

    def env(self, **more: str) -> dict[str, str]:
        return super().env(**{**ENV, "TRANSLATOR": "one", **more})


@pytest.fixture
def mesh(new_kafka: Callable[[], KafkaProcess], tmp_path: Path) -> Any:
    kafka = new_kafka()
    folder = tmp_path / "mesh"
    folder.mkdir()
    own = OnePartition(f"kafka://{kafka.bootstrap}", folder)
    own.routes.joinpath("letter.yaml").write_text(ROUTE)
    own.approvers.write_text(f"editor: [{ANA}]\n")
    yield own, kafka
    own.end()


def event(subject: str, text: str = "ciao") -> tuple[str, list[Header]]:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"e-{subject}-{text}",
        "ce_source": "/t",
        "ce_type": "com.example.letter",
    }
    headers |= {"ce_subject": subject, "content-type": "application/json"}
    return json.dumps({"text": text, "to": "en"}), [(name, value.encode()) for name, value in headers.items()]


async def test_every_codec_and_ending_on_each_topic(mesh: tuple[OnePartition, KafkaProcess]) -> None:
    own, kafka = mesh
    await own.cli("topics", "apply")
    foreign = ForeignProducers(kafka.bootstrap)
    events, answers = TopicPartition(own.topics.events, 0), TopicPartition(own.topics.responses, 0)
    own.router()
    own.agent("translating_agent")
    try:
        for codec in CODECS:
            rolled_back, headers = event(codec, "rolled back")
            await foreign.write(events, [rolled_back], codec=codec, transaction="abort", headers=headers)
            body, headers = event(codec)
            await foreign.write(events, [body], codec=codec, transaction="commit", headers=headers)

        async def all_asked() -> dict[str, str] | None:
            found = (await own.json("approvals"))["approvals"]
            return {one["workflow_id"]: one["approval_id"] for one in found} if len(found) == len(CODECS) else None

        asked = await own.wait_until("a question of each", all_asked)
        for number, codec in enumerate(CODECS):
            approval_id = asked[f"letter:{codec}"]
            no = json.dumps({"approval_id": approval_id, "decision": "reject", "by": ANA, "reason": "no"})
            yes = json.dumps({"approval_id": approval_id, "decision": "approve", "by": ANA})
            at = TopicPartition(answers.topic, number % 4)
            await foreign.write(at, [no], codec=codec, transaction="abort")
            await foreign.write(at, [yes], codec=codec, transaction="commit")
        outcomes = await own.wait_outcomes(len(CODECS))
        assert {name: one.output for name, one in outcomes.items()} == {
            f"letter:{codec}": {"text": "ciao (en)"} for codec in CODECS
        }
        # Signs and results of others, rolled back or garbage.
        # The marker is the last of its partition.
        for topic in (own.topics.results, own.topics.commands, own.topics.agents, own.topics.tasks("one")):
            await foreign.write(TopicPartition(topic, 0), ["rubbish"], codec="zstd", transaction="abort")
        for command in (("status",), ("event", "e-zstd-ciao"), ("log", "verify"), ("dlq", "list"), ("agents",)):
            await asyncio.wait_for(own.cli(*command), 60)
        assert (await own.json("dlq", "list"))["dead_letters"] == []
    finally:
        await foreign.close()


async def test_an_open_transaction_holds_up_no_query_and_no_timer(mesh: tuple[OnePartition, KafkaProcess]) -> None:
    own, kafka = mesh
    own.routes.joinpath("letter.yaml").write_text(ROUTE.replace("deadline: 1h", "deadline: 2s"))
    await own.cli("topics", "apply")
    foreign = ForeignProducers(kafka.bootstrap)
    own.router()
    own.agent("translating_agent")
    try:
        body, headers = event("a")
        await foreign.write(TopicPartition(own.topics.events, 0), [body], headers=headers)
        for topic in (own.topics.responses, own.topics.results, own.topics.events):
            await foreign.write(TopicPartition(topic, 0), ["open"], transaction="commit")

        async def asked() -> Any:
            begun = (await own.json("workflows"))["workflows"]
            return (await own.json("approvals"))["approvals"] or bool(begun and begun[0]["ended_at"])

        await own.wait_until("the question", asked)
        for topic in (own.topics.responses, own.topics.events):
            await foreign.write(TopicPartition(topic, 0), ["open"], transaction="open")
        outcomes = await own.wait_outcomes(1)
        assert outcomes["letter:a"].status == "rejected"
        await asyncio.wait_for(own.cli("status"), 60)
    finally:
        await foreign.close()


async def test_what_can_not_be_decoded_is_a_dead_letter_and_what_is_behind_it_is_read(
    mesh: tuple[OnePartition, KafkaProcess],
) -> None:
    own, kafka = mesh
    await own.cli("topics", "apply")
    topics = own.topics
    foreign = ForeignProducers(kafka.bootstrap)
    damaged = [
        TopicPartition(topic, 0)
        for topic in (
            topics.events,
            topics.responses,
            topics.commands,
            topics.results,
            topics.tasks("one"),
            topics.agents,
        )
    ]
    for at in damaged:
        await foreign.write(at, ["one", "two", "three"], codec="zstd")
    kafka.stop()
    for at in damaged:
        damage(kafka.data, at)
    kafka.start()
    own.router()
    own.agent("translating_agent")
    await own.cli(
        "publish", "--type", "com.example.letter", "--source", "/t", "--subject", "a", "--data", event("a")[0]
    )

    async def asked() -> str | None:
        found = (await own.json("approvals"))["approvals"]
        return found[0]["approval_id"] if found else None

    await own.cli("approve", await own.wait_until("the question", asked), "--by", ANA)
    assert (await own.wait_outcomes(1))["letter:a"].output == {"text": "ciao (en)"}

    async def letters() -> Any:
        found = (await own.json("dlq", "list"))["dead_letters"]
        unreadable = {f"{one['topic']}/{one['partition']}": one for one in found if one["code"] == "unreadable"}
        return unreadable if len(unreadable) == len(damaged) - 1 else None

    found = await own.wait_until("a dead letter of each", letters)
    assert set(found) == {f"{at.topic}/{at.partition}" for at in damaged[:-1]}  # a card is passed over
    for one in found.values():
        assert "offset 0 to 2, can't be decoded" in one["message"]
    await own.cli("status")
