"""Copies: what ingress makes of the records that it reads.

Owns which input each event, answer and command becomes, and what takes the place of one that can't
be read or sent: a dead letter, and for what a person sent also an input that refuses it. `ingress`
sends them. An event's own broker timestamp says which routes it meets, so every router matches it
alike.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import structlog
from msgspec.structs import replace

from mesh.codec.approvals import decode_response
from mesh.codec.cloudevents import BatchOfEvents, from_record
from mesh.codec.commands import decode_command
from mesh.codec.dead_letters import UNREADABLE, dead_letter
from mesh.codec.event_batches import member_words, members_of
from mesh.codec.inbox import encode_inbox, is_refusal
from mesh.codec.schedules import decode_schedule_set, is_schedule_set
from mesh.codec.unreadable import refusal_code, unreadable_answer, unreadable_command
from mesh.core import ids
from mesh.core.inputs import EventMatched, EventOffered, InboxInput
from mesh.core.matching import Match, MatchProblem
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, RecordTooLarge, SenderError
from mesh.ports import Broker, Clock, Delivery, OutRecord, Record, SendFailure, UnreadableRecords
from mesh.services.router.config import RouterConfig
from mesh.services.router.definitions import Definitions

_log = structlog.get_logger()

Copy = tuple[OutRecord, Record]
"""A record to send, and the one that it was made of."""


class Copies:
    """`counts`: events by what became of them since the start: matched, unwanted, malformed, ...

    `dead_letters`: how many since the start, by code. `converters`: by topic, the inputs that a
    record becomes.
    """

    def __init__(self, broker: Broker, topics: Topics, routes: Definitions, config: RouterConfig, clock: Clock) -> None:
        self._broker = broker
        self._topics = topics
        self._routes = routes
        self._config = config
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self.dead_letters: Counter[str] = Counter()
        self.converters: dict[str, Callable[[Record], Iterator[InboxInput | MatchProblem]]] = {
            topics.events: self._from_event,
            topics.responses: self._from_response,
            topics.commands: self._from_command,
        }

    def of(self, record: Record) -> Iterator[Copy]:
        """The inbox records that one source record becomes, and what each was made of.

        A record that can't be read becomes a dead letter, and so does one for each route that can't
        take it. If a person sent it, it also becomes an input that refuses it.
        """
        try:
            for given in self.converters[record.topic](record):
                if isinstance(given, MatchProblem):
                    yield self._dead_letter(record, "no_key", given.message), record
                else:
                    yield self._addressed(given), record
        except BatchOfEvents:
            yield from self._copies_of_batch(record)
        except SenderError as error:
            yield self._dead_letter(record, _code(error), str(error)), record
            is_damaged = isinstance(record, UnreadableRecords)
            yield from self._refusals(record, UNREADABLE if is_damaged else refusal_code(error), str(error))

    def set_aside(self, record: Record) -> Iterator[Copy]:
        """What becomes of a record that routers died on: nobody reads it."""
        why = "routers died on it time and again; it is set aside unread"
        yield self._dead_letter(record, "poison", why), record
        yield from self._refusals(record, "poison", why)

    def _refusals(self, record: Record, code: str, message: str) -> Iterator[Copy]:
        """The input that refuses an answer or a command, and so gives its sender a receipt."""
        message = record.message if isinstance(record, UnreadableRecords) else message
        if record.topic == self._topics.responses:
            yield self._addressed(unreadable_answer(record, code, message)), record
        elif record.topic == self._topics.commands and not is_schedule_set(record):  # a router sends those
            yield self._addressed(unreadable_command(record, code, message)), record

    def _copies_of_batch(self, batch: Record) -> Iterator[Copy]:
        """The same for each event of a batch: one that can't be taken keeps back no other."""
        try:
            members = members_of(batch)
        except MalformedRecord as error:
            yield self._dead_letter(batch, "malformed", str(error)), batch
            return
        # counted through the batch, so that the receiver's watermark passes over none of them
        indexes = count()
        for number, member in enumerate(members, 1):
            try:
                for given in self.converters[batch.topic](member):
                    if isinstance(given, MatchProblem):
                        yield self._dead_letter(member, "no_key", member_words(number) + given.message), member
                    else:
                        yield self._addressed(replace(given, source_index=next(indexes))), member
            except SenderError as error:
                yield self._dead_letter(member, _code(error), member_words(number) + str(error)), member

    def _addressed(self, given: InboxInput) -> OutRecord:
        # by workflow id, so that one owner decides on all inputs of a workflow
        partition = ids.partition_of_key(given.workflow_id.encode(), self._config.partitions)
        record = encode_inbox(given, topic=self._topics.inbox, partition=partition)
        if record.size_bytes() > self._broker.max_record_bytes:
            raise RecordTooLarge(
                f"as an input it has {record.size_bytes()} bytes; send a reference to the data instead"
            )
        return record

    def _from_event(self, record: Record) -> Iterator[InboxInput | MatchProblem]:
        size = len(record.value or b"")
        if size > self._config.max_event_bytes:
            raise RecordTooLarge(
                f"the event has {size} bytes, and the mesh takes {self._config.max_event_bytes}: send a reference to the data"
            )
        event = from_record(record)
        routes = self._routes.at(record.timestamp_ms)
        matches = [*routes.match(event), *routes.offers(event)]
        self.counts["matched" if matches else "unwanted"] += 1
        for index, match in enumerate(matches):
            if isinstance(match, MatchProblem):
                yield match
                continue
            said: dict[str, Any] = {
                "workflow_id": match.workflow_id,
                "route": match.route.name,
                "digest": match.route.digest,
                "key": match.key,
                "cloud_event": event,
                **_source(record, index),
            }
            if isinstance(match, Match):
                yield EventMatched(**said)
            else:
                yield EventOffered(**said, only_live=match.only_live)

    def _from_response(self, record: Record) -> Iterator[InboxInput]:
        self.counts["answers"] += 1
        yield decode_response(record)

    def _from_command(self, record: Record) -> Iterator[InboxInput]:
        if is_schedule_set(record):
            self.counts["schedules"] += 1
            yield decode_schedule_set(record)
            return
        self.counts["commands"] += 1
        given = decode_command(record)
        # of an agent or a route: each partition holds its own pauses (ADR 42)
        if given.target:
            for partition in range(self._config.partitions):
                name = ids.pauses_of(partition, self._config.partitions)
                yield replace(given, workflow_id=name, source_index=partition)
        else:
            yield given

    def _dead_letter(self, record: Record, code: str, message: str) -> OutRecord:
        self.counts["dead_letters"] += 1
        self.dead_letters[code] += 1
        message = record.message if isinstance(record, UnreadableRecords) else message
        _log.warning(
            "dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=message
        )
        return dead_letter(
            record,
            code=code,
            message=message,
            component="ingress",
            group=self._topics.ingress_group,
            topics=self._topics,
            at_ms=self._clock.now_ms(),
        )

    def instead(self, copy: OutRecord, source: Record, failure: SendFailure) -> Iterator[Copy]:
        """What to send in place of a copy that the broker refuses.

        No record may hold up all others.
        """
        if failure.code is not Delivery.TOO_LARGE:
            _log.error("ingress_refused", topic=copy.topic, code=failure.code, reason=failure.message)
            yield copy, source
            return
        stays = f"{failure.message}; its bytes stay at {source.topic}/{source.partition}/{source.offset}"
        if copy.topic != self._topics.dlq:
            # From one substitute to the next, less of the record is left, until what is left fits.
            yield self._dead_letter(source, "too_large", failure.message), source
            if not is_refusal(copy):  # a smaller one there is not
                yield from self._refusals(source, "too_large", failure.message)
        elif copy.value is not None:
            yield self._dead_letter(replace(source, value=None), "too_large", stays), source
        else:
            yield self._dead_letter(replace(source, key=None, value=None, headers=()), "too_large", stays), source


def _code(error: SenderError) -> str:
    return "too_large" if isinstance(error, RecordTooLarge) else "malformed"


def _source(record: Record, index: int) -> dict[str, Any]:
    """Where an inbox record came from. The receiver's watermark depends on it."""
    return {
        "source_topic": record.topic,
        "source_partition": record.partition,
        "source_offset": record.offset,
        "source_index": index,
        "source_at_ms": record.timestamp_ms,
    }
