"""What is not the first that a person hears waits for the hours of their calendar."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from notified_mesh import HOUR_S, LOOK_S, NotifiedMesh, begin, play

ROLES = {"ana": "finance", "ben": "finance", "dee": "clerk"}
TWO = {"role": "finance", "quorum": 2, "deadline": "48h", "remind": {"every": "5h"}}
HOURS = "calendar: office\ntimezone: UTC\nhours: {mon-sun: 09:00-17:00}\n"


async def at_night(m: NotifiedMesh, *people: str) -> None:
    """A notifier at 20:00, and `people` who want nothing more until 09:00."""
    await m.create(*ROLES)
    await m.apply_calendar(HOURS)
    for person in people:
        await m.set_channel(person, replace(m.webhook(person), hours="office"))
    midnight_s = -(m.clock.now_ms() / 1000) % 86_400
    await m.pass_time(midnight_s + 20 * HOUR_S)
    m.start()
    await m.pass_time()


def hours_of(m: NotifiedMesh, begins_s: float, person: str, what: str) -> list[float]:
    """How many hours after the beginning these notices arrived."""
    arrived = [
        one for one in m.receivers.arrived if one.address == f"https://{person}/" and f"/{what}/" in one.message.id
    ]
    return [(one.at_s - begins_s) / 3_600 for one in arrived]


def test_the_first_comes_at_once_and_a_reminder_when_the_hours_begin(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m, "ana")
        began_s = m.loop.time()
        await m.do(begin())  # at 20:02
        await m.pass_time(22 * HOUR_S)
        for person in ("ana", "ben"):
            assert hours_of(m, began_s, person, "asked") == [pytest.approx(0, abs=0.02)]
        # at 01:00, 06:00, 11:00 and 16:00; the first two of ana's come as one at 09:00
        assert hours_of(m, began_s, "ben", "reminder") == pytest.approx([5, 10, 15, 20], abs=0.02)
        assert hours_of(m, began_s, "ana", "reminder") == pytest.approx([12.97, 15, 20], abs=0.05)

    play(tmp_path, ROLES, scene, **TWO)


@pytest.mark.deep  # it plays many hours
def test_what_is_held_is_told_as_it_is_when_the_hours_begin(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m, "ana", "ben")
        await m.do(begin())
        await m.do(begin("voted"))
        await m.do(begin("ended"))
        await m.pass_time()
        told = len(m.receivers.arrived)
        for key in ("k", "voted"):
            await m.do(lambda p, key=key: p.order("extend", key=key, by_ms=3_600_000))  # type: ignore[misc]
        await m.do(lambda p: [p.vote(one, key="ended") for one in ("ana", "ben")])
        await m.pass_time(12 * HOUR_S)
        assert len(m.receivers.arrived) == told
        await m.do(lambda p: p.order("extend", by_ms=3_600_000))
        await m.pass_time(2 * HOUR_S)
        later = m.receivers.told()[told:]
        # one notice for two extensions; who has just been told something is not reminded besides
        mine = sorted(one for one in later if one.endswith("ana"))
        assert mine == ["ended closed/1 ana", "extended/1 ana", "voted extended/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


@pytest.mark.deep  # it plays many hours
def test_a_question_comes_at_once_and_its_answer_within_the_hours(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m, "ana", "dee")
        await m.do(begin())
        await m.pass_time()
        await m.do(lambda p: p.vote("ana", "ask", text="why?"))
        await m.pass_time()
        assert "question/1 dee" in m.receivers.told()
        await m.do(lambda p: p.vote("dee", "inform", text="so"))
        await m.pass_time(4 * HOUR_S)
        assert "answered/1 ana" not in m.receivers.told()
        await m.pass_time(10 * HOUR_S)
        assert "answered/1 ana" in m.receivers.told()

    play(tmp_path, ROLES, scene, **TWO, ask_back={"to": {"role": "clerk"}})


@pytest.mark.deep  # it plays many hours
def test_nothing_waits_where_the_deadline_comes_before_the_hours(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m, "ana")
        began_s = m.loop.time()
        await m.do(begin())
        await m.pass_time(12 * HOUR_S)
        assert hours_of(m, began_s, "ana", "reminder") == pytest.approx([5], abs=0.02)

    play(tmp_path, ROLES, scene, **{**TWO, "deadline": "8h"})


@pytest.mark.deep  # it plays many hours
@pytest.mark.parametrize(("off", "told"), [(13, ["ana", "ben"]), (22, ["ana", "ben"]), (38, [])])
def test_a_close_is_told_for_a_day_and_for_an_hour_of_the_hours_after_it(
    off: int, told: list[str], tmp_path: Path
) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m, "ana")
        await m.do(begin())
        await m.pass_time()
        m.kill()
        await m.do(lambda p: [p.vote(one) for one in ("ana", "ben")])  # at 20:04
        await m.pass_time(off * HOUR_S)
        m.start("two")
        await m.pass_time()
        at_once = [one for one in m.receivers.told() if one.startswith("closed")]
        assert sorted(at_once) == [f"closed/1 {one}" for one in told if one == "ben" or off == 13]
        await m.pass_time(15 * HOUR_S)
        assert sorted(one for one in m.receivers.told() if one.startswith("closed")) == [f"closed/1 {o}" for o in told]

    play(tmp_path, ROLES, scene, **TWO)


@pytest.mark.deep  # it plays many hours
def test_a_calendar_that_is_not_in_effect_holds_nothing_back_until_it_is(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await at_night(m)
        await m.set_channel("ana", replace(m.webhook("ana"), hours="other"))
        began_s = m.loop.time()
        await m.do(begin())
        await m.pass_time(5 * HOUR_S + 4 * LOOK_S)
        assert len(hours_of(m, began_s, "ana", "reminder")) == 1
        await m.apply_calendar(HOURS.replace("office", "other"))
        await m.pass_time(6 * HOUR_S)
        assert len(hours_of(m, began_s, "ana", "reminder")) == 1
        await m.pass_time(2 * HOUR_S + 4 * LOOK_S)
        assert len(hours_of(m, began_s, "ana", "reminder")) == 2

    play(tmp_path, ROLES, scene, **TWO)
