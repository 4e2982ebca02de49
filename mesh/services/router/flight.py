"""A batch on its way: append, check the acknowledgement, send the effects, advance the mark.

Nothing leaves the router that the log does not hold. Effects wait for their decisions'
acknowledgement, which must be exactly the expected one. Flights of one partition overlap, and each
waits for the one before it at two points, so that both happen in order: *confirmed* (the log has
it) and *done* (its effects are acknowledged). A flight that sends records to other workflows waits
for *done* before it sends. Their receivers keep one watermark, and an overtaken record would look
like a repeat (docs/adr/0006-records-between-partitions.md).
"""

import asyncio
from collections.abc import Sequence

import structlog

from mesh.codec.effects import effect_id
from mesh.codec.log import decode_log_record
from mesh.core.effects import Effect, SendInput, SendTask, WithdrawTask
from mesh.core.inputs import TaskUndeliverable, Undeliverable
from mesh.core.ownership import Gap, Lost
from mesh.errors import BrokerError
from mesh.ports import Broker, Clock, Delivery, OutRecord, Record, SendFailure
from mesh.services.reading import read_up_to
from mesh.services.router.batch import Batch, Flight
from mesh.services.router.clock import Sight, blind
from mesh.services.router.owner import Owner

_log = structlog.get_logger()
_GAP_READ_TIMEOUT_S = 10.0


def begin_flight(owner: Owner, batch: Batch) -> Flight:
    """Take the next place.

    Called in the order of the batches. `fly` may then run as a task of its own.
    """
    flight = Flight(batch, owner.flights[-1] if owner.flights else None, owner.clock.jumps)
    owner.flights.append(flight)
    return flight


async def fly(broker: Broker, owner: Owner, flight: Flight, clock: Clock, sight: Sight = blind) -> None:
    """Carry a batch through.

    An error of the broker ends the ownership. No other error is caught.
    """
    try:
        if flight.left is not None:
            await _leave(broker, owner, flight.left, flight.batch, flight.previous)
        await _fly(broker, owner, flight, clock, sight)
    except BrokerError as error:
        owner.lose(str(error))
    finally:
        # also after an error: the flight behind this one waits for both of its points
        flight.end()
        owner.flights.remove(flight)


async def wait_landed(owner: Owner) -> None:
    """Wait until nothing of this owner is under way."""
    while owner.flights:
        await asyncio.wait([owner.flights[-1].done])
        await asyncio.sleep(0)


async def _fly(broker: Broker, owner: Owner, flight: Flight, clock: Clock, sight: Sight) -> None:
    batch, previous = flight.batch, flight.previous
    if owner.is_lost():  # since this flight was made ready
        return
    sent_ms = clock.now_ms()
    appended = await broker.append(owner.log, batch.first_offset, batch.records, batch.effect_records)
    if previous is not None:
        # acknowledgements must be checked in the order of the appends
        await previous.confirmed
    # the flight before may have ended the ownership, and then this outcome means nothing
    if owner.is_lost():
        return
    # only a broker that compares refuses (SQLite); Kafka appends, and the offsets are checked below
    if appended.refused:
        owner.lose("the log's end is not where it was left: another owner wrote to it")
        return
    if not await _is_expected(broker, owner, appended.spans):
        return
    # else it left by another clock than the one that it is acknowledged by
    if flight.jumps == owner.clock.jumps:
        owner.clock.hear(appended.timestamp_ms, sent_ms, clock.now_ms(), sight)
    owner.confirm(batch, appended.spans)
    # after the log has it: a decision that is dropped never happened, and must leave no span
    if owner.tracing is not None:
        owner.tracing.record(batch.traced)
    if owner.metrics is not None:
        owner.metrics.note(batch)
    # the next flight may be checked now, while this one's effects are on their way
    flight.confirmed.set_result(None)
    failures = appended.failures
    # on SQLite they are part of the append's transaction
    if batch.effect_records and not appended.effects_sent:
        # A record of the flight before may yet be sent again. It must not come behind one of ours,
        # which is counted after it (docs/adr/0006).
        if batch.crosses and previous is not None:
            await previous.done
            if owner.is_lost():
                return
        failures = tuple(await broker.send(batch.effect_records))
    # the mark must not pass effects of the flight before that nobody has acknowledged
    if previous is not None:
        await previous.done
    if owner.is_lost():
        return
    # the batch's first offset is low enough for every decision in it
    if _take_failures(owner, batch, failures, decided_at=appended.spans[0][0]):
        first, count = appended.spans[-1]
        owner.acknowledge_effects(first + count, had_effects=bool(batch.effect_records))


async def _leave(
    broker: Broker, owner: Owner, left: asyncio.Future[None], batch: Batch, previous: Flight | None
) -> None:
    """Send the keys of a batch, and let it append when the flight before has begun to."""
    if owner.is_lost():
        return
    failures = await broker.send(batch.keys) if batch.keys else ()
    if previous is not None and previous.left is not None:
        await previous.left
    if failures:
        first = failures[0]
        owner.lose(f"{batch.keys[first.index].topic} does not take the keys of private workflows: {first.message}")
    # the caller begins its append before anything else can run
    left.set_result(None)


def _take_failures(owner: Owner, batch: Batch, failures: Sequence[SendFailure], *, decided_at: int) -> bool:
    """Give the owner what could not be sent as inputs. False: the ownership has ended instead."""
    for failure in failures:
        effect, record = batch.effects[failure.index], batch.effect_records[failure.index]
        # A withdrawal only saves work, and nobody waits for it.
        if isinstance(effect, WithdrawTask):
            continue
        if must_not_be_passed_over(effect, failure):
            owner.lose(f"{record.topic} does not take what is owed to other workflows: {failure.message}")
            return False
        owner.own_inputs.offer(undeliverable(effect, record, failure), decided_at)
    return True


async def _is_expected(broker: Broker, owner: Owner, spans: tuple[tuple[int, int], ...]) -> bool:
    """Whether the acknowledgement lets the ownership go on."""
    gaps = owner.ownership.acknowledged(spans)
    if isinstance(gaps, Lost):
        owner.lose(gaps.reason)
        return False
    for gap in gaps:
        records = [decode_log_record(record) for record in await _read(broker, owner, gap)]
        lost = owner.ownership.gap_read(gap, records)
        if lost is not None:
            owner.lose(lost.reason)
            return False
    return True


async def _read(broker: Broker, owner: Owner, gap: Gap) -> list[Record]:
    """The records that others wrote between ours."""
    reader, records = await broker.reader(), list[Record]()
    try:
        reader.assign({owner.log: gap.start})
        async for some in read_up_to(reader, {owner.log: gap.stop}, silence_s=_GAP_READ_TIMEOUT_S):
            records.extend(record for record in some if record.offset < gap.stop)
    finally:
        await reader.close()
    return records


def must_not_be_passed_over(effect: Effect, failure: SendFailure) -> bool:
    """Whether this effect must be sent before anything that comes after it.

    Then the ownership ends and begins again until an operator has corrected the topic.
    """
    # One that is too large for the broker, although it was measured before its decision, will never
    # be sent, so nothing can overtake it.
    return isinstance(effect, SendInput) and failure.code is not Delivery.TOO_LARGE


def undeliverable(effect: Effect, record: OutRecord, failure: SendFailure) -> TaskUndeliverable | Undeliverable:
    """The input that a permanently failed send becomes."""
    _log.error("effect_undeliverable", workflow_id=effect.workflow_id, topic=record.topic, reason=failure.message)
    if isinstance(effect, SendTask):
        return TaskUndeliverable(
            workflow_id=effect.workflow_id,
            task_id=effect.task_id,
            attempt=effect.attempt,
            code=failure.code,
            message=failure.message,
        )
    return Undeliverable(
        workflow_id=effect.workflow_id,
        effect_id=effect_id(effect),
        topic=record.topic,
        code=failure.code,
        message=failure.message,
    )
