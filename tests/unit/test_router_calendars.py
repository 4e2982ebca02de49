"""A router asks by the calendar in effect at the broker's time of what asks."""

import asyncio

import pytest
from msgspec.structs import replace
from test_router_people import TOPICS, Running, lead

from mesh.codec.approvals import decode_request
from mesh.codec.calendars import encode_calendar, encode_calendar_activation
from mesh.core.activation import DELAY_MS
from mesh.core.calendars import Calendar, WorkingDay
from mesh.errors import BrokerUnavailable, OperatorError
from mesh.ports import OutRecord
from mesh.services.calendars import CalendarReader, Calendars, activate_calendar, read_calendars
from mesh.services.client import Client
from mesh.testing.virtual_time.loop import VirtualTimeLoop, run

ROUTE = """\
route: pay
on: {type: t}
key: ${{ event.id }}
steps:
  review: {approval: {ask: Pay?, payload: 1, role: lead, deadline: {working: 1h, calendar: berlin}}}
"""
HOUR_MS = 3_600_000


def calendar(starts_ms: int, name: str = "berlin") -> Calendar:
    """Work begins at one time and goes on for a day."""
    minute = starts_ms // 60_000 * 60_000
    day = WorkingDay(begins_ms=minute, hours=((minute, minute + 24 * HOUR_MS),))
    return Calendar(name=name, zone="UTC", from_ms=0, until_ms=minute + 48 * HOUR_MS, days=(day,))


class Asking(Running):
    route = ROUTE

    async def apply_calendar(self, found: Calendar) -> None:
        known = CalendarReader(self.operator, TOPICS)
        await known.start()
        token = self.entropy.token()
        await activate_calendar(
            known, self.operator, TOPICS, found, activation_id=token, by="ops", at_ms=self.clock.now_ms()
        )
        await known.close()

    async def asked(self, name: str, count: int) -> int:
        """Start a workflow; the deadline of its question."""
        client = Client(self.operator, TOPICS, clock=self.clock, entropy=self.entropy)
        await client.publish_all([{"type": "t", "source": "/s", "id": name, "data": {}}])
        found = decode_request((await self._wait_landed(TOPICS.requests, count))[-1])
        assert found.deadline_at_ms is not None
        return found.deadline_at_ms


def test_a_question_is_asked_by_the_calendar_as_of_what_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing but looks for inputs: a router that only followed would ask by the version before
    monkeypatch.setattr("mesh.services.router.people._FOLLOW_EVERY_S", 1e6)

    async def main(loop: VirtualTimeLoop) -> None:
        running = Asking(loop)
        await running.apply(lead("ana"))
        start_ms = running.clock.now_ms()
        near, far = calendar(start_ms + 10 * HOUR_MS), calendar(start_ms + 50 * HOUR_MS)
        await running.apply_calendar(near)
        await asyncio.sleep(DELAY_MS / 1000)
        assert await running.asked("a", 1) == near.days[0].begins_ms + HOUR_MS
        await running.apply_calendar(far)
        assert await running.asked("b", 2) == near.days[0].begins_ms + HOUR_MS, "the second does not hold yet"
        await asyncio.sleep(DELAY_MS / 1000)
        assert await running.asked("c", 3) == far.days[0].begins_ms + HOUR_MS
        await running.stop()

    run(main)


def test_what_asks_by_no_calendar_costs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.services.router.people._FOLLOW_EVERY_S", 1e6)

    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.apply(lead("ana"), lead("ben"), lead("cem"))
        await running.ask()
        assert running.broker.looks == 1, "the one of its start"
        await running.stop()

    run(main)


async def _known(*records: OutRecord) -> Calendars:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    running = Running(loop)
    assert not await running.operator.send(list(records))
    found = await read_calendars(running.operator, TOPICS)
    await running.stop()
    return found


def test_what_can_not_be_read_is_named_and_stays_out() -> None:
    stored = encode_calendar(calendar(0), TOPICS)
    damaged = replace(stored, value=b"{}")
    digest = stored.key.decode().rpartition("/")[2] if stored.key else ""
    active = encode_calendar_activation("berlin", digest, topics=TOPICS, activation_id="x", by="ops", at_ms=1)
    lost = encode_calendar_activation("paris", "sha256:9", topics=TOPICS, activation_id="y", by="ops", at_ms=1)
    bad = replace(active, key=b"calendar-activation/z", value=b"[]")

    async def main(_: VirtualTimeLoop) -> None:
        known = await _known(damaged, active, lost, bad)
        assert known.at(10**15) == {}
        problems = [known.problem_of(placed) for name in known.timeline.names() for placed in known.timeline.all(name)]
        assert "topics/schemas/calendar.json has the form" in problems[0]
        assert problems[1] == "version sha256:9 is not there"
        # stored again as it should be, it holds
        whole = await _known(damaged, active, stored)
        assert [one.digest for one in whole.at(10**15).values()] == [digest]

    run(main)


def test_an_activation_that_can_not_be_stored_or_read_back_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Asking(loop)
        monkeypatch.setattr(
            "mesh.services.calendars.encode_calendar", lambda *_: OutRecord("mesh.none", b"calendar/x", b"v")
        )
        with pytest.raises(OperatorError, match="calendar/x could not be stored"):
            await running.apply_calendar(calendar(0))
        monkeypatch.undo()
        monkeypatch.setattr(
            "mesh.services.calendars.encode_calendar_activation",
            lambda *_, **__: OutRecord(TOPICS.people, b"other", b"v", partition=0),
        )
        with pytest.raises(BrokerUnavailable, match="is on its way"):
            await running.apply_calendar(calendar(0))
        await running.stop()

    run(main)
