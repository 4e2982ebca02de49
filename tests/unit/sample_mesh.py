"""A small mesh as records, written by hand.

Everything that can happen has happened in it, and the tools have to show that.
"""

from collections.abc import Sequence
from typing import Any

from mesh.codec.cards import encode_card
from mesh.codec.cloudevents import to_record
from mesh.codec.dead_letters import dead_letter
from mesh.codec.effects import EffectEncoder
from mesh.codec.log import encode_decision, encode_owner_changed
from mesh.codec.open_approvals import OPEN_PARTITIONS
from mesh.core import events as ev
from mesh.core.effects import effects
from mesh.core.ids import partition_of_key, run_id, span_id, task_id
from mesh.core.inputs import CommandGiven
from mesh.core.json_values import digest
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt, SendReceipt
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.ports import Broker, OutRecord, Record, TopicPartition, TopicSpec

PARTITIONS = 2
START_MS = 1_763_900_000_000
TOPICS = Topics()
SOURCE = "https://api.github.com/repos/octo/repo"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def event(number: int, *, kind: str = "com.github.issues.opened", event_id: str | None = None) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id or f"delivery-{number}",
        "source": SOURCE,
        "type": kind,
        "subject": str(number),
        "data": {"issue": {"number": number, "title": f"Issue {number}"}},
    }


def workflow(number: int) -> str:
    return f"issue-triage:octo/repo#{number}"


def run(number: int) -> str:
    return run_id(SOURCE, f"delivery-{number}")


def partition(workflow_id: str) -> int:
    return partition_of_key(workflow_id.encode(), PARTITIONS)


class Writer:
    """Writes decisions as the owners of all partitions would, one token for each."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.now_ms = START_MS
        self.tokens = [f"{p:032x}" for p in range(PARTITIONS)]

    async def create_topics(self) -> None:
        names = (TOPICS.log, TOPICS.inbox, TOPICS.results)
        specs = [TopicSpec(name, PARTITIONS) for name in names]
        others = (TOPICS.events, TOPICS.responses, TOPICS.commands, TOPICS.receipts, TOPICS.requests, TOPICS.outcomes)
        specs += [TopicSpec(TOPICS.command_receipts, 1), TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS)]
        once = (*others, TOPICS.agents, TOPICS.dlq, TOPICS.definitions, TOPICS.people)
        specs += [TopicSpec(name, 1) for name in once]
        specs += [TopicSpec(TOPICS.tasks(agent), 1) for agent in ("classifier", "drafter", "publisher")]
        await self._broker.create_topics(specs)

    async def take_over(self, number: int, *, owner: str = "router-1", token: str | None = None) -> None:
        self.tokens[number] = token or self.tokens[number]
        change = ev.OwnerChanged(
            token=self.tokens[number], owner=owner, partitions=PARTITIONS, format_level=1, at_ms=self.now_ms
        )
        await self._append(number, encode_owner_changed(change, topic=TOPICS.log, partition=number))

    async def decide(
        self, workflow_id: str, cause: ev.Cause, *events: ev.Event, after_ms: int = 40, token: str | None = None
    ) -> None:
        self.now_ms += after_ms
        number = partition(workflow_id)
        decision = ev.Decision(
            epoch=token or self.tokens[number],
            workflow_id=workflow_id,
            at_ms=self.now_ms,
            cause=cause,
            positions={cause.topic: cause.offset + 1} if cause.topic else {},
            mark=0,
            events=events,
        )
        await self._append(number, encode_decision(decision, topic=TOPICS.log, partition=number))
        encode = EffectEncoder(TOPICS, 0, PARTITIONS).encode
        told = [effect for effect in effects(decision) if isinstance(effect, ShowApproval | SendReceipt)]
        await self.send([encode(effect) for effect in told])

    async def obey(self, given: CommandGiven, *events: ev.Event) -> None:
        """Decide a command, and send its receipt."""
        cause = ev.Cause(
            kind="command",
            id=given.command_id,
            source_topic=given.source_topic,
            source_partition=given.source_partition,
            source_offset=given.source_offset,
            receipt_by_place=True,
        )
        await self.decide(given.workflow_id, cause, *events)
        decision = ev.Decision(
            epoch="", workflow_id=given.workflow_id, at_ms=self.now_ms, cause=cause, positions={}, mark=0, events=events
        )
        encode = EffectEncoder(TOPICS, 0, PARTITIONS).encode
        await self.send([encode(effect) for effect in effects(decision) if isinstance(effect, SendCommandReceipt)])

    async def _append(self, number: int, record: OutRecord) -> None:
        await self._broker.append(TopicPartition(TOPICS.log, number), None, [record], [])

    async def send(self, records: Sequence[OutRecord]) -> None:
        assert not await self._broker.send(records)

    async def publish(self, *events: dict[str, Any]) -> None:
        await self.send([to_record(one, topic=TOPICS.events) for one in events])


def event_cause(number: int, offset: int) -> ev.Cause:
    return ev.Cause(
        kind="event",
        id=f"delivery-{number}",
        topic=TOPICS.inbox,
        partition=partition(workflow(number)),
        offset=offset,
        source_topic=TOPICS.events,
        source_partition=0,
        source_offset=offset,
        event_source=SOURCE,
    )


def result_cause(number: int, step: str, attempt: int = 1) -> ev.Cause:
    task = task_id(workflow(number), run(number), step)
    return ev.Cause(kind="result", id=f"{task}/{attempt}")


def started(number: int) -> ev.WorkflowStarted:
    return ev.WorkflowStarted(
        route="issue-triage",
        digest="sha256:" + "ab" * 32,
        run_id=run(number),
        key=f"octo/repo#{number}",
        cloud_event=event(number),
        trace_id=TRACE,
    )


def dispatched(
    number: int, step: str, agent: str, at_ms: int, *, attempt: int = 1, why: str = "no needs"
) -> ev.TaskDispatched:
    task = task_id(workflow(number), run(number), step)
    return ev.TaskDispatched(
        step=step,
        task_id=task,
        attempt=attempt,
        agent=agent,
        input={"title": f"Issue {number}", "body": "It does not start.\nSince yesterday."},
        due_at_ms=at_ms + 300_000,
        traceparent=f"00-{TRACE}-{span_id(task, str(attempt))}-01",
        reason=why,
    )


def succeeded(number: int, step: str, output: Any) -> ev.TaskSucceeded:
    return ev.TaskSucceeded(
        step=step,
        task_id=task_id(workflow(number), run(number), step),
        attempt=1,
        output=output,
        agent_version="1.2.0",
        agent_instance="host-1",
        duration_ms=18.4,
    )


DRAFT = {"title": "Re: Issue 1", "body": "Thanks for the report.\n\nCould you tell us the version?", "labels": ["bug"]}


def asked(number: int, at_ms: int, *, deadline_ms: int | None = 86_400_000) -> ev.ApprovalRequested:
    return ev.ApprovalRequested(
        step="review",
        approval_id=task_id(workflow(number), run(number), "review"),
        question="Post this reply?",
        payload=DRAFT,
        digest=digest(DRAFT),
        role="maintainer",
        on_expiry="reject",
        traceparent=f"00-{TRACE}-{span_id('review')}-01",
        reason="needs draft: succeeded; if: steps.classify.severity == 'high'",
        deadline_at_ms=None if deadline_ms is None else at_ms + deadline_ms,
    )


async def write_topics(broker: Broker) -> Writer:
    """Make the topics of a mesh in which nothing has happened."""
    writer = Writer(broker)
    await writer.create_topics()
    return writer


async def write_sample(broker: Broker) -> Writer:
    """Write the sample: 1 waits for review, 2 is completed, 3 has an incident.

    Also an unwanted event, a malformed one, a repeated one, and a zombie's decision.
    """
    writer = await write_topics(broker)
    await writer.publish(event(1), event(2), event(3), event(9, kind="com.github.issues.labeled"), event(1))
    malformed = OutRecord(TOPICS.events, None, b"not an event")
    await writer.send([malformed])
    for number in range(PARTITIONS):
        await writer.take_over(number)
    await _waits_for_review(writer, 1)
    await _completed(writer, 2)
    await _incident(writer, 3)
    await writer.decide(
        workflow(1),
        event_cause(1, 4),
        ev.StartRepeated(event_source=SOURCE, event_id="delivery-1", reason="the same event started this run"),
    )
    await writer.decide(workflow(4), event_cause(4, 77), started(4), token="f" * 32)
    await _dead_letter(writer)
    await writer.send([encode_card(card("classifier", writer.now_ms), topics=TOPICS)])
    return writer


async def _waits_for_review(writer: Writer, number: int) -> None:
    now = writer.now_ms
    await writer.decide(
        workflow(number), event_cause(number, 0), started(number), dispatched(number, "classify", "classifier", now)
    )
    triage = {"labels": ["bug"], "severity": "high", "confidence": 0.91}
    await writer.decide(
        workflow(number),
        result_cause(number, "classify"),
        succeeded(number, "classify", triage),
        dispatched(number, "draft", "drafter", now, why="needs classify: succeeded"),
    )
    await writer.decide(
        workflow(number), result_cause(number, "draft"), succeeded(number, "draft", DRAFT), asked(number, writer.now_ms)
    )


async def _completed(writer: Writer, number: int) -> None:
    now = writer.now_ms
    await writer.decide(
        workflow(number), event_cause(number, 1), started(number), dispatched(number, "classify", "classifier", now)
    )
    await writer.decide(
        workflow(number),
        result_cause(number, "classify"),
        succeeded(number, "classify", {"severity": "low"}),
        ev.StepSkipped(step="review", reason="if: steps.classify.severity == 'high' is false", output=DRAFT),
        ev.WorkflowEnded(
            status="completed",
            reason="every step is done",
            run_id=run(number),
            traceparent=f"00-{TRACE}-{span_id('end')}-01",
            output={"posted": True},
            forget_at_ms=now + 1_000_000,
        ),
    )
    await writer.decide(
        workflow(number),
        result_cause(number, "classify"),
        ev.InputDismissed(code="closed", message="the workflow ended"),
    )


async def _incident(writer: Writer, number: int) -> None:
    now = writer.now_ms
    task = task_id(workflow(number), run(number), "classify")
    await writer.decide(
        workflow(number), event_cause(number, 2), started(number), dispatched(number, "classify", "classifier", now)
    )
    failure = ev.TaskFailed(
        step="classify", task_id=task, attempt=1, kind="OSError", message="disk full", retryable=True, duration_ms=3.0
    )
    await writer.decide(
        workflow(number),
        result_cause(number, "classify"),
        failure,
        ev.RetryScheduled(step="classify", attempt=2, due_at_ms=now + 1_000),
    )
    await writer.decide(
        workflow(number),
        ev.Cause(kind="timer", id="retry"),
        dispatched(number, "classify", "classifier", now, attempt=2, why="retry after OSError"),
        after_ms=1_000,
    )
    await writer.decide(
        workflow(number),
        result_cause(number, "classify", 2),
        ev.TaskFailed(
            step="classify",
            task_id=task,
            attempt=2,
            kind="OSError",
            message="disk full",
            retryable=True,
            duration_ms=3.0,
        ),
        ev.IncidentRaised(
            step="classify", kind="exhausted", message="2 of 2 attempts failed; the last: OSError: disk full"
        ),
    )


async def _dead_letter(writer: Writer) -> None:
    original = Record(TOPICS.events, 0, 5, writer.now_ms, None, b"not an event", ())
    letter = dead_letter(
        original,
        code="malformed",
        message="mesh.events, partition 0, offset 5: this is not a CloudEvent",
        component="ingress",
        group=TOPICS.ingress_group,
        topics=TOPICS,
        at_ms=writer.now_ms,
    )
    await writer.send([letter])


def card(name: str, _now_ms: int, *, stopped: bool = False) -> AgentCard:
    return AgentCard(
        name=name,
        version="1.2.0",
        topic=TOPICS.tasks(name),
        concurrency=8,
        instance="host-1",
        expires_after_s=30,
        stopped=stopped,
    )


def approved(number: int, answer_id: str, *, by: str = "ana@example.org") -> ev.ApprovalClosed:
    return ev.ApprovalClosed(
        step="review",
        approval_id=task_id(workflow(number), run(number), "review"),
        verdict="approved",
        payload=DRAFT,
        by=by,
        role="maintainer",
        answer_id=answer_id,
    )


def command_events(command_id: str, *, accepted: bool) -> ev.CommandAccepted | ev.CommandRefused:
    if accepted:
        return ev.CommandAccepted(command_id=command_id, command="retry", by="ops")
    return ev.CommandRefused(
        command_id=command_id, command="retry", code="no_incident", message="no step waits for a retry", by="ops"
    )
