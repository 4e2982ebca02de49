"""The client: what an upstream team, or an approver's own tool, needs from the mesh.

Owns publishing events, waiting for outcomes, and answering approvals, over nothing but the public
topics. It does not know a workflow's inside. `mesh.Client` (made in `mesh.wiring`) opens a broker
for it; the command line uses it too.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import msgspec

from mesh import defaults
from mesh.codec.approvals import (
    ApprovalRequest,
    Personal,
    Receipt,
    Signer,
    decode_receipt,
    decode_request,
    encode_response,
)
from mesh.codec.cloudevents import present, to_record
from mesh.codec.commands import CommandReceipt, decode_command_receipt, encode_command
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.operations import command_id as command_id_of
from mesh.codec.outcomes import Outcome, decode_outcome
from mesh.core.forks import Fork
from mesh.core.ids import parse_step_id, partition_of_key, person_id, run_id
from mesh.core.inputs import AnswerKind, ApprovalOrder, Command, PersonalKind
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, RecordTooLarge, SenderError, TopicMissing
from mesh.ports import Broker, Clock, Entropy, OutRecord, Record, TopicPartition
from mesh.services.reading import search_last
from mesh.services.refusals import error_of

Found = TypeVar("Found")

# published ones whose source the client remembers, so that their id alone is enough
KEPT_EVENTS: Final = 10_000
BATCH: Final = 1_000


class AnswerKey(Protocol):
    """A private key of a person who answers."""

    def sign(self, body: dict[str, Any]) -> str:
        """The signed body, as JWS in compact form."""
        ...


class Client:
    """A connection of one's own to a mesh.

    Use it as an async context manager; safe for many tasks of one event loop.

        async with await mesh.connect("kafka://localhost:9092") as client:
            event_id = await client.publish(
                {"type": "com.example.ordered", "source": "/shop", "data": {"order": 7}}
            )
            outcome = await client.wait_outcome(event_id, timeout_s=60)

    Every method raises `BrokerUnavailable` if the broker does not answer, and `TopicMissing` if no
    mesh was set up on it.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        *,
        clock: Clock,
        entropy: Entropy,
        max_event_bytes: int = defaults.MAX_EVENT_BYTES,
    ) -> None:
        """Takes over the broker: closing the client closes it.

        `max_event_bytes`: as the routers have it, which make a dead letter of a larger event.
        """
        self._max_event_bytes = max_event_bytes
        self._broker = broker
        self._topics = topics
        self._clock = clock
        self._entropy = entropy
        self._published: dict[str, tuple[str, Mapping[TopicPartition, int]]] = {}
        self._counts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._broker.close()

    # Events ---------------------------------------------------------------------------------------

    async def publish(self, event: Mapping[str, Any], *, key: str | None = None) -> str:
        """Publish one CloudEvent, and return its id when the broker has it.

        The event is in CloudEvents' JSON format. `specversion` may be left out, and so may `id`,
        which is then a fresh one. Publishing the same id and source again is harmless. Raises
        `MalformedRecord` if it is not a CloudEvent, `RecordTooLarge` if it is too large for the
        broker.
        """
        [event_id] = await self.publish_all([event], key=key)
        return event_id

    async def publish_all(self, events: Sequence[Mapping[str, Any]], *, key: str | None = None) -> list[str]:
        """Publish several events in one batch, as `publish` does, and return their ids in order.

        All are checked before the first is sent.
        """
        whole = [{"specversion": "1.0", "id": self._entropy.token(), **present(event)} for event in events]
        records = [self._event_record(event, key) for event in whole]
        # before they are sent: a fast workflow may have ended before the broker has answered
        outcomes_from = await self._ends(self._topics.outcomes)
        await self._send(records)
        for event in whole:
            self._published[event["id"]] = (event["source"], outcomes_from)
        # a client that publishes for months must not remember all of it
        while len(self._published) > KEPT_EVENTS:
            del self._published[next(iter(self._published))]
        return [event["id"] for event in whole]

    def _event_record(self, event: Mapping[str, Any], key: str | None) -> OutRecord:
        record = to_record(event, topic=self._topics.events, key=None if key is None else key.encode())
        size = len(record.value or b"")
        if size > self._max_event_bytes:
            raise RecordTooLarge(
                f"event {event['id']!r} has {size} bytes, and the mesh takes {self._max_event_bytes} "
                "(MESH_MAX_EVENT_BYTES): "
                "put the bulk elsewhere and send its address"
            )
        if record.size_bytes() > self._broker.max_record_bytes:
            raise RecordTooLarge(
                f"event {event['id']!r} has {record.size_bytes()} bytes, and the broker takes "
                f"{self._broker.max_record_bytes}: "
                "put the bulk elsewhere and send its address"
            )
        return record

    async def wait_outcome(
        self,
        workflow_or_event_id: str,
        *,
        source: str | None = None,
        since_ms: int | None = None,
        timeout_s: float = defaults.CLIENT_TIMEOUT_S,
    ) -> Outcome:
        """Wait for a workflow's end: how it ended, why, and with what output.

        With the id of an event that this client published (or of any event, if `source` is given),
        for the run that it started. With a workflow's id, for its last end if it has ended already,
        else for the next. `since_ms` spares the reading of older outcomes. Raises `TimeoutError`.
        An event that starts no workflow has no outcome (`mesh events show ID` says what became of
        it).
        """
        wanted = workflow_or_event_id
        known_source, starts = self._published.get(wanted, (source, None))
        run = None if known_source is None else run_id(known_source, wanted)
        if starts is None:
            starts = await self._starts(self._topics.outcomes, None if run else wanted, since_ms)

        def match(record: Record) -> Outcome | None:
            outcome = _readable(decode_outcome, record)
            fits = outcome is not None and (outcome.run_id == run if run else outcome.workflow_id == wanted)
            return outcome if fits else None

        found = await self._find_last(starts, match, timeout_s=timeout_s)
        if found is None:
            kind, command = ("event", "events show") if run else ("workflow", "workflows show")
            raise TimeoutError(
                f"{kind} {wanted} has no outcome after {timeout_s:g} s: `mesh {command} '{wanted}'` tells "
                "what became of it"
            )
        return found

    async def follow_requests(
        self, workflow_id: str, starts: Mapping[TopicPartition, int], tell: Callable[[ApprovalRequest], None]
    ) -> None:
        """Yield each question that this workflow asks people, once each, until cancelled.

        `starts`: from `request_position`, taken before.
        """
        told: set[str] = set()
        reader = await self._broker.reader()
        try:
            reader.assign(starts)
            while True:
                for record in await reader.poll(max_records=BATCH, timeout_s=1.0):
                    request = _readable(decode_request, record)
                    if request and request.workflow_id == workflow_id and request.approval_id not in told:
                        told.add(request.approval_id)
                        tell(request)
        finally:
            await reader.close()

    async def request_position(self, workflow_id: str) -> Mapping[TopicPartition, int]:
        """The position at which this workflow's next question will be."""
        return await self._starts_now(self._topics.requests, workflow_id)

    # People's answers and commands ----------------------------------------------------------------

    async def answer(
        self,
        approval_id: str,
        decision: AnswerKind,
        *,
        by: str,
        payload: Any = msgspec.UNSET,
        reason: str = "",
        digest: str | None = None,
        choice: str = "",
        form: Any = None,
        text: str = "",
        key: AnswerKey | None = None,
        to: str = "",
        question: int = 0,
        on_behalf: str = "",
        answer_id: str = "",
        timeout_s: float = defaults.CLIENT_TIMEOUT_S,
    ) -> Receipt:
        """Answer an approval, and wait for the receipt, which says whether the answer counts.

        Its `status` is accepted or refused, with a `code`. `payload` is an edit: approve this
        instead of what was asked. `digest` binds the answer to the payload that the person saw. For
        an approval of several people it is needed, and `choose`, `edit`, `withdraw`, `comment`,
        `ask` and `inform` are decisions too; `choice`, `form`, `text`, `to` and `question` go with
        them. `key` signs the answer. `on_behalf`: the person who has delegated to `by`.
        `answer_id`: under which it counts once; empty: a fresh one.

        Raises `TimeoutError` if no receipt comes: the answer is on the broker all the same, and
        counts when a router reads it.
        """
        parts = parse_step_id(approval_id)
        if parts is None:
            raise MalformedRecord(
                f"{approval_id!r} is not an approval's id (<workflow id>/<run id>/<step>): copy it from "
                "`mesh approvals`"
            )
        answer_id = answer_id or f"answer-{self._entropy.token()}"
        response = encode_response(
            topics=self._topics,
            approval_id=approval_id,
            decision=decision,
            by=by,
            answer_id=answer_id,
            at_ms=self._clock.now_ms(),
            digest=digest,
            reason=reason,
            payload=payload,
            choice=choice,
            form=form,
            text=text,
            signer=None if key is None else Signer(await self.mesh(), key.sign),
            to=to,
            question=question,
            on_behalf=on_behalf,
        )
        return await self._answered(response, parts.workflow_id, answer_id, approval_id, timeout_s)

    async def say(
        self,
        decision: PersonalKind,
        *,
        by: str,
        personal: Personal,
        to: str = "",
        reason: str = "",
        key: AnswerKey | None = None,
        timeout_s: float = defaults.CLIENT_TIMEOUT_S,
    ) -> Receipt:
        """Say something of oneself: delegate, end a delegation, or be absent. As `answer`.

        What is accepted goes to the topic of delegations, and is in effect two seconds later.
        """
        answer_id = f"answer-{self._entropy.token()}"
        response = encode_response(
            topics=self._topics,
            approval_id="",
            decision=decision,
            by=by,
            answer_id=answer_id,
            at_ms=self._clock.now_ms(),
            reason=reason,
            to=to,
            personal=personal,
            signer=None if key is None else Signer(await self.mesh(), key.sign),
        )
        return await self._answered(response, person_id(by), answer_id, decision, timeout_s)

    async def _answered(
        self, response: OutRecord, workflow_id: str, answer_id: str, about: str, timeout_s: float
    ) -> Receipt:
        """Send an answer, and wait for its receipt. Raises `TimeoutError`."""
        # before the answer is sent, or its receipt may lie below the place where the reading begins
        starts = await self._starts_now(self._topics.receipts, workflow_id)
        await self._send([response])

        def match(record: Record) -> Receipt | None:
            receipt = _readable(decode_receipt, record)
            return receipt if receipt is not None and receipt.answer_id == answer_id else None

        found = await self._find_last(starts, match, timeout_s=timeout_s)
        if found is None:
            raise TimeoutError(
                f"no receipt on {self._topics.receipts} for the answer {answer_id} to {about} after "
                f"{timeout_s:g} s: "
                "it is on the broker, and counts when a router reads it (`mesh status` shows whether one is alive)"
            )
        return found

    async def mesh(self) -> str:
        """What names this mesh among all, in the answers that are signed for it."""
        return mesh_of(self._topics.prefix, await self._broker.cluster_id())

    async def command(
        self,
        command: Command,
        workflow_id: str,
        *,
        by: str,
        reason: str = "",
        step: str | None = None,
        to: str = "",
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
        output: Any = msgspec.UNSET,
        about: ApprovalOrder | None = None,
        target: str = "",
        fork: Fork | None = None,
        operation: str = "",
    ) -> str:
        """Send an operator's command and return its id.

        Its receipt says what became of it (`command_receipts`); `order` waits for that.
        `operation`: what the command is a part of; its id is made of that, and a workflow obeys one
        command of an operation.
        """
        command_id = command_id_of(operation, workflow_id) if operation else f"command-{self._entropy.token()}"
        record = encode_command(
            topics=self._topics,
            command=command,
            workflow_id=workflow_id,
            by=by,
            command_id=command_id,
            at_ms=self._clock.now_ms(),
            reason=reason,
            step=step,
            to=to,
            input=input,
            output=output,
            order=about,
            target=target,
            fork=fork,
            operation=operation,
        )
        await self._send([record])
        return command_id

    async def order(
        self,
        command: Command,
        workflow_id: str,
        *,
        by: str,
        reason: str = "",
        step: str | None = None,
        to: str = "",
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
        output: Any = msgspec.UNSET,
        about: ApprovalOrder | None = None,
        target: str = "",
        fork: Fork | None = None,
        operation: str = "",
        timeout_s: float = defaults.CLIENT_TIMEOUT_S,
    ) -> CommandReceipt:
        """Send an operator's command, and wait for the receipt, which says whether it is accepted.

        Raises `TimeoutError` if no receipt comes: the command is on the broker all the same, and is
        obeyed when a router reads it.
        """
        # before the command is sent, for the same reason as in `answer`
        starts = await self.command_position()
        command_id = await self.command(
            command,
            workflow_id,
            by=by,
            reason=reason,
            step=step,
            to=to,
            input=input,
            output=output,
            about=about,
            target=target,
            fork=fork,
            operation=operation,
        )
        found = await self.command_receipts([command_id], starts, timeout_s=timeout_s)
        if command_id not in found:
            raise TimeoutError(
                f"no receipt on {self._topics.command_receipts} for `{command}` of {workflow_id} "
                f"({command_id}) after {timeout_s:g} s: "
                "the command is on the broker, and a router will read it (`mesh status` shows whether one is alive)"
            )
        return found[command_id]

    async def command_position(self) -> Mapping[TopicPartition, int]:
        """Where the receipts of commands that are sent from now on will be."""
        return await self._ends(self._topics.command_receipts)

    async def command_receipts(
        self, command_ids: Collection[str], starts: Mapping[TopicPartition, int], *, timeout_s: float
    ) -> dict[str, CommandReceipt]:
        """The receipts of these commands by id, as far as they come in time.

        `starts`: from `command_position`, taken before the commands were sent.
        """
        wanted, found = set(command_ids), dict[str, CommandReceipt]()

        def match(record: Record) -> bool | None:
            receipt = _readable(decode_command_receipt, record)
            if receipt is not None and receipt.command_id in wanted:
                found[receipt.command_id] = receipt
            return True if len(found) == len(wanted) else None

        if wanted:
            await self._find_last(starts, match, timeout_s=timeout_s)
        return found

    # The way to the broker ------------------------------------------------------------------------

    async def _send(self, records: Sequence[OutRecord]) -> None:
        failures = await self._broker.send(records)
        if failures:
            raise error_of(failures[0], records[failures[0].index], len(failures))

    async def _partitions(self, topic: str) -> int:
        if topic not in self._counts:
            known = await self._broker.topics()
            if topic not in known:
                raise TopicMissing(
                    f"this broker has no topic {topic}: no mesh was set up here (run `mesh topics apply`, or "
                    "check address and prefix)"
                )
            self._counts[topic] = known[topic].partitions
        return self._counts[topic]

    async def _ends(self, topic: str) -> Mapping[TopicPartition, int]:
        count = await self._partitions(topic)
        return await self._broker.end_offsets([TopicPartition(topic, p) for p in range(count)])

    async def _starts_now(self, topic: str, key: str) -> Mapping[TopicPartition, int]:
        return await self._broker.end_offsets([await self._partition_of(topic, key)])

    async def _starts(self, topic: str, key: str | None, since_ms: int | None) -> Mapping[TopicPartition, int]:
        """Where to begin. With a key, only in its partition."""
        count = await self._partitions(topic)
        every = [TopicPartition(topic, p) for p in range(count)]
        partitions = every if key is None else [await self._partition_of(topic, key)]
        if since_ms is None:
            return dict.fromkeys(partitions, 0)
        return await self._broker.offsets_at(partitions, since_ms)

    async def _partition_of(self, topic: str, key: str) -> TopicPartition:
        return TopicPartition(topic, partition_of_key(key.encode(), await self._partitions(topic)))

    async def _find_last(
        self, starts: Mapping[TopicPartition, int], match: Callable[[Record], Found | None], *, timeout_s: float
    ) -> Found | None:
        """The last match among the records there now; if there is none, the first to come."""
        ends = await self._broker.end_offsets(list(starts))
        reader = await self._broker.reader()
        try:
            reader.assign(starts)
            return await search_last(reader, ends, match, timeout_s)
        finally:
            await reader.close()


def _readable(decode: Callable[[Record], Found], record: Record) -> Found | None:
    """Whether the record can be read. A foreign record on a public topic is nobody's outcome."""
    try:
        return decode(record)
    except SenderError:
        return None
