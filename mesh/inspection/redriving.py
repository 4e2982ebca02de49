"""Dead letters that operators send back or discard: the operation, in portions.

Owns the order of what is written. A letter is taken (a record behind it on its topic), then sent,
then said to be redriven. Of several operators who take the same letter the first in the order of
the topic has it; each looks at the read model before it sends. Where a command ends between taking
and saying so, the letter stays taken, and only who names it with `again` sends it a second time.
`mesh dlq redrive` and `mesh dlq discard` call it.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.handlings import Act, Handling, LetterPlace, encode_handling
from mesh.codec.redrive import By, Stays, redriven
from mesh.codec.webhooks import Terms
from mesh.core.topics import Topics
from mesh.errors import BrokerError, MalformedRecord
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import DeadLetterRow, LetterFilter
from mesh.ports import Broker, OutRecord, Record, TopicPartition
from mesh.services.reading import read_up_to

PORTION: Final = 200  # letters that are taken at once: this many are unsure if the command is killed

_GONE: Final = Stays("gone", "the broker no longer has it: its retention is over")


VERDICTS: Final = ("redriven", "discarded", "stays")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one letter, or would.

    `to`: the topic that it goes to. `code`, `message`: why it stays.
    """

    id: str
    verdict: Literal["redriven", "discarded", "stays"]
    topic: str
    letter_code: str
    to: str = ""
    code: str = ""
    message: str = ""


class Redriving:
    """One operation on dead letters."""

    def __init__(
        self,
        broker: Broker,
        model: ReadModel,
        topics: Topics,
        by: By,
        *,
        again: bool = False,
        webhooks: Mapping[str, Terms] | None = None,
    ) -> None:
        """Take who does it. `again`: letters count that are not open, too.

        `webhooks`: as `gateway.yaml` has them now, where that is known.
        """
        self._broker = broker
        self._model = model
        self._topics = topics
        self._by = by
        self._again = again
        self._webhooks = webhooks

    def rows(self, wanted: LetterFilter) -> Page[DeadLetterRow]:
        """The letters that fit, as of when the operation began."""
        return queries.dead_letters(self._model.db, wanted)

    async def sent(self, rows: Iterable[DeadLetterRow]) -> AsyncIterator[Verdict]:
        """What was said of letters that were redriven before. Nothing is sent."""
        again = Redriving(self._broker, self._model, self._topics, self._by, again=True, webhooks=self._webhooks)
        async for one in again.planned(list(rows)):
            yield one

    async def planned(self, rows: Sequence[DeadLetterRow]) -> AsyncIterator[Verdict]:
        """What would become of each letter. Nothing is sent."""
        async for portion, found in self._read(rows):
            for row in portion:
                yield _verdict(row, found[row.place])

    async def planned_discard(self, rows: Sequence[DeadLetterRow]) -> AsyncIterator[Verdict]:
        """What would become of each letter. Nothing is written."""
        for row in _in_order(rows):
            yield _verdict(row, self._barred(row))

    async def redrive(self, rows: Sequence[DeadLetterRow]) -> AsyncIterator[Verdict]:
        """Send them back, in the order of the topic."""
        async for portion, found in self._read(rows):
            going = [row for row in portion if isinstance(found[row.place], OutRecord)]
            ours = await self._take(going, "taken")
            refused = await self._send([(row, found[row.place]) for row in going if row.place in ours])
            for row in portion:
                outcome = refused.get(row.place, found[row.place])
                is_lost = isinstance(outcome, OutRecord) and row.place not in ours
                yield _verdict(row, self._taken_by(row) if is_lost else outcome)

    async def discard(self, rows: Sequence[DeadLetterRow]) -> AsyncIterator[Verdict]:
        """Say that nothing is to be done about them."""
        for portion in _portions(_in_order(rows)):
            ours = await self._take([row for row in portion if self._barred(row) is None], "discarded")
            for row in portion:
                yield _verdict(row, None if row.place in ours else self._barred(row) or self._taken_by(row))

    async def _take(self, rows: Sequence[DeadLetterRow], act: Act) -> set[LetterPlace]:
        """Take or discard letters. Returns those that nobody else has taken meanwhile."""
        if not rows:
            return set()
        await self._say(self._handling(row.place, act, after=row.operation) for row in rows)
        await self._model.catch_up()
        wanted = LetterFilter(places=tuple(row.place for row in rows))
        return {
            row.place for row in queries.dead_letters(self._model.db, wanted) if row.operation == self._by.operation
        }

    async def _send(self, letters: Sequence[tuple[DeadLetterRow, OutRecord | Stays]]) -> dict[LetterPlace, Stays]:
        """Send records that were taken, and say what became of each. Returns what was refused."""
        records = [record for _, record in letters if isinstance(record, OutRecord)]
        failures = await self._broker.send(records) if records else []
        refused = {
            letters[one.index][0].place: Stays(str(one.code), f"the broker does not take it: {one.message}")
            for one in failures
        }
        await self._say(
            self._handling(row.place, "released")
            if row.place in refused
            else self._handling(row.place, "redriven", to=record.topic)
            for (row, _), record in zip(letters, records, strict=True)
        )
        return refused

    def _handling(self, place: LetterPlace, act: Act, *, after: str = "", to: str = "") -> Handling:
        by = self._by
        return Handling(
            partition=place.partition,
            offset=place.offset,
            act=act,
            operation=by.operation,
            by=by.by,
            at_ms=by.at_ms,
            after=after,
            reason=by.reason,
            to=to,
        )

    async def _say(self, handlings: Iterable[Handling]) -> None:
        records = [encode_handling(one, topic=self._topics.dlq) for one in handlings]
        failures = await self._broker.send(records) if records else []
        if failures:
            raise BrokerError(f"{self._topics.dlq} does not take a record: {failures[0].message}")

    def _taken_by(self, row: DeadLetterRow) -> Stays:
        now = queries.dead_letter(self._model.db, row.partition, row.offset)
        who = f"{now.handled_by} was faster: it is {now.status}" if now is not None else "it is gone"
        return Stays("taken", who)

    async def _read(
        self, rows: Sequence[DeadLetterRow]
    ) -> AsyncIterator[tuple[Sequence[DeadLetterRow], Mapping[LetterPlace, OutRecord | Stays]]]:
        """Portions of letters in the order of the topic, each with what would be sent."""
        for portion in _portions(_in_order(rows)):
            records = await self._records([row.place for row in portion])
            yield portion, {row.place: self._back(row, records.get(row.place)) for row in portion}

    async def _records(self, places: Sequence[LetterPlace]) -> dict[LetterPlace, Record]:
        """The letters' records, as far as the broker still has them."""
        first: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        for place in places:
            at = TopicPartition(self._topics.dlq, place.partition)
            first[at] = min(place.offset, first.get(at, place.offset))
            ends[at] = max(place.offset + 1, ends.get(at, 0))
        begins, theirs = await self._broker.begin_offsets(list(ends)), await self._broker.end_offsets(list(ends))
        wanted, found = set(places), dict[LetterPlace, Record]()
        reader = await self._broker.reader()
        try:
            reader.assign({at: max(offset, begins[at]) for at, offset in first.items()})
            async for records in read_up_to(reader, {at: min(end, theirs[at]) for at, end in ends.items()}):
                read = ((LetterPlace(one.partition, one.offset), one) for one in records)
                found |= {place: record for place, record in read if place in wanted}
        finally:
            await reader.close()
        return found

    def _barred(self, row: DeadLetterRow) -> Stays | None:
        """Why a letter that was handled before is left alone."""
        is_meant = row.status == "open" or self._again
        return None if is_meant else Stays(row.status, _handled(row))

    def _back(self, row: DeadLetterRow, record: Record | None) -> OutRecord | Stays:
        if (barred := self._barred(row)) is not None:
            return barred
        if record is None:
            return _GONE
        try:
            return redriven(
                decode_dead_letter(record), row.place, self._by, topics=self._topics, webhooks=self._webhooks
            )
        except MalformedRecord as error:
            return Stays("foreign", str(error))


def _handled(row: DeadLetterRow) -> str:
    why = f" ({row.handled_reason})" if row.handled_reason else ""
    who = f"{row.handled_by}{why}"
    if row.status == "taken":
        return f"{who} took it and did not say that it was sent; look, then name it with --id and --again"
    return f"{row.status} by {who}; name it with --id and --again if you mean it all the same"


def _verdict(row: DeadLetterRow, outcome: OutRecord | Stays | None) -> Verdict:
    """`outcome` None: it is discarded."""
    verdict = Verdict(id=row.id, verdict="discarded", topic=row.topic, letter_code=row.code)
    match outcome:
        case OutRecord():
            return msgspec.structs.replace(verdict, verdict="redriven", to=outcome.topic)
        case Stays():
            return msgspec.structs.replace(verdict, verdict="stays", code=outcome.code, message=outcome.message)
        case None:
            return verdict


def _in_order(rows: Sequence[DeadLetterRow]) -> list[DeadLetterRow]:
    return sorted(rows, key=lambda row: row.place)


def _portions(rows: Sequence[DeadLetterRow]) -> Iterator[Sequence[DeadLetterRow]]:
    return (rows[start : start + PORTION] for start in range(0, len(rows), PORTION))
