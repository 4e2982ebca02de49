"""The notifier: who is told what and when, over deaths and restarts."""

from pathlib import Path

import pytest
from notified_mesh import HOUR_S, LOOK_S, TOPICS, NotifiedMesh, begin, play

from mesh.codec.channels import Channel
from mesh.codec.delegations import encode_personal
from mesh.codec.notices import notice_partition
from mesh.core.delegations import Absence
from mesh.notifier.couriers import Undelivered
from mesh.notifier.messages import Message

ROLES = {"ana": "finance", "ben": "finance legal", "cy": "legal"}
TWO = {"role": "finance", "quorum": 2, "deadline": "9h"}


def test_a_new_approval_is_told_to_those_who_may_answer_it_and_stays_told(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "cy")
        m.start()
        await m.pass_time()
        await m.do(begin())
        await m.pass_time()
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 ben"]
        assert await m.statuses() == {"asked/1 ana": "sent", "asked/1 ben": "sent"}

    play(tmp_path, ROLES, scene, role="finance", deadline="5h")


def test_an_edit_is_told_to_those_whose_votes_it_has_reset(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "cy")
        m.start()
        await m.do(begin())
        await m.pass_time()
        await m.do(lambda p: p.vote("ana"))
        await m.pass_time()
        await m.do(lambda p: p.vote("ben", "edit", payload={"amount": 6}))
        await m.pass_time()
        assert m.receivers.told()[2:] == ["edited/1 ana"]
        # a second edit before anybody voted again: once more, and to nobody else
        await m.do(lambda p: p.vote("ben", "edit", payload={"amount": 7}))
        await m.pass_time()
        assert m.receivers.told()[3:] == ["edited/2 ana"]
        await m.do(lambda p: p.vote("ana"))
        await m.do(lambda p: p.vote("ben"))
        await m.pass_time()
        assert sorted(m.receivers.told()[4:]) == ["closed/1 ana", "closed/1 ben"]
        closed = m.receivers.arrived[-1].message
        assert closed.title == "Closed as approved: Pay 5?"
        assert closed.body["data"]["verdict"] == "approved"

    play(tmp_path, ROLES, scene, **TWO)


def test_an_edit_is_told_by_a_notifier_that_saw_neither_vote_nor_edit(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start()
        await m.do(begin())
        await m.pass_time()
        m.kill()
        await m.do(lambda p: p.vote("ana"))
        await m.do(lambda p: p.vote("ben", "edit", payload={"amount": 6}))
        m.start("two")
        await m.pass_time()
        assert m.receivers.told()[2:] == ["edited/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_stage_is_told_to_those_whom_it_adds_and_an_extension_to_all_who_were_told(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "cy")
        m.start()
        await m.do(begin())
        await m.pass_time()
        await m.pass_time(HOUR_S)
        await m.do(lambda p: p.order("reassign", roles=("legal",)))
        await m.pass_time()
        assert m.receivers.told()[2:] == ["stage/1 cy"]
        await m.do(lambda p: p.order("extend", by_ms=3_600_000))
        await m.pass_time()
        assert sorted(m.receivers.told()[3:]) == ["extended/1 ana", "extended/1 ben", "extended/1 cy"]
        deadline = m.partition.step("review").due_at_ms
        assert deadline is not None
        assert m.receivers.arrived[-1].message.body["data"]["deadline_at"] is not None

    play(tmp_path, ROLES, scene, **TWO)


REMINDERS = [
    # without a word of the route: once, an hour before
    ({}, [8.0]),
    ({"remind": {"before": ["4h", "1h"]}}, [5.0, 8.0]),
    ({"remind": {"every": "2h"}}, [2.0, 4.0, 6.0, 8.0]),
    # what comes sooner after the one before is left out
    ({"remind": {"before": ["4h", "1h"], "cooldown": "4h"}}, [5.0]),
    ({"remind": {"before": "1h", "every": "3h", "cooldown": "2h"}}, [3.0, 6.0, 8.0]),
]


@pytest.mark.parametrize(("more", "hours"), REMINDERS)
def test_reminders_come_at_the_instants_of_the_route(
    more: dict[str, object], hours: list[float], tmp_path: Path
) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start()
        await m.pass_time()
        await m.do(begin())
        began_s = m.loop.time()
        await m.do(lambda p: p.vote("ben"))  # who has voted is never reminded
        await m.pass_time(9.5 * HOUR_S)
        reminders = [one for one in m.receivers.arrived if "/reminder/" in one.message.id]
        assert {one.address for one in reminders} == {"https://ana/"}
        late_s = [one.at_s - began_s - hour * HOUR_S for one, hour in zip(reminders, hours, strict=True)]
        assert all(0 <= late <= 2 * LOOK_S for late in late_s)

    play(tmp_path, ROLES, scene, **TWO, **more)


def test_who_is_away_is_told_and_not_reminded(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        now_ms = m.clock.now_ms()
        away = Absence(person="ana", start_ms=now_ms, until_ms=now_ms + 7 * 24 * 3_600_000, said_ms=now_ms)
        await m.send([encode_personal(away, topics=TOPICS, at_ms=now_ms)])
        m.start()
        await m.pass_time()
        await m.do(begin())
        await m.pass_time(9.5 * HOUR_S)
        assert [told for told in m.receivers.told() if told.startswith("reminder")] == ["reminder/1 ben"]
        assert "asked/1 ana" in m.receivers.told()

    play(tmp_path, ROLES, scene, **TWO)


def test_reminders_that_were_missed_come_as_one(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.do(begin())
        await m.pass_time()
        m.kill()
        await m.pass_time(6.5 * HOUR_S)
        m.start("two")
        await m.pass_time()
        assert m.receivers.told()[1:] == ["reminder/1 ana"]
        await m.pass_time(HOUR_S)
        assert m.receivers.told()[2:] == ["reminder/2 ana"]

    play(tmp_path, ROLES, scene, **TWO, remind={"every": "1h"})


def test_a_person_with_a_digest_has_one_message_a_day_and_reminders_where_it_would_be_too_late(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create(ana=Channel(email="ana@example.org", digest="08:00@UTC"))
        midnight_s = -(m.clock.now_ms() / 1000) % 86_400
        await m.pass_time(midnight_s + 7 * HOUR_S)
        m.start()
        await m.do(begin())  # until 16:00: the digest of 08:00 has it
        await m.pass_time(4 * HOUR_S)
        assert m.receivers.told()[1:] == [f"digest/{m.today()} ana"]
        assert "Pay 5?" in m.receivers.arrived[-1].message.text
        # until 20:00: no digest comes in time
        await m.do(begin("late"))
        await m.pass_time(9 * HOUR_S)
        assert m.receivers.told()[2:] == ["late asked/1 ana", "reminder/1 ana", "late reminder/1 ana"]
        told = len(m.receivers.arrived)
        for key in ("k", "late"):
            await m.do(lambda p, key=key: p.wait("review", key))  # type: ignore[misc]
        # both closes are in one message; then nothing waits, so there is no digest that day
        await m.pass_time(13 * HOUR_S)
        await m.do(begin("new"))
        await m.pass_time(HOUR_S)
        assert m.receivers.told()[told:] == ["closed/1 ana", "new asked/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_who_is_excluded_has_voted_or_has_no_address_is_told_nothing(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start()
        await m.do(begin())
        await m.pass_time(8.5 * HOUR_S)
        assert {one.address for one in m.receivers.arrived} == {"https://ana/"}
        await m.set_channel("ana", None)
        await m.do(begin("next"))
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana", "reminder/1 ana"]

    play(tmp_path, {**ROLES, "dan": "finance"}, scene, **TWO, **{"not": {"people": "ben"}})


def test_what_is_no_longer_true_is_not_sent(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "cy")
        m.receivers.refuse = lambda address, message: Undelivered("down") if "ana" in address else None
        m.start()
        await m.do(begin())
        await m.pass_time()
        await m.do(lambda p: p.vote("ana"))
        await m.pass_time(HOUR_S)
        assert (await m.statuses())["asked/1 ana"] == "dropped"

    play(tmp_path, ROLES, scene, **TWO)


def test_what_is_asked_again_under_its_id_is_told_again_with_another_number(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.do(begin())
        await m.pass_time()
        await m.do(lambda p: p.wait("review"))
        await m.pass_time()
        await m.do(lambda p: p.command("retry"))
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana", "closed/1 ana", "asked/2 ana"]

    play(tmp_path, ROLES, scene, **TWO, on_expiry="incident")


def test_one_slow_receiver_holds_nobody_and_one_refused_message_not_those_behind_it(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.receivers.takes_s["https://ana/"] = HOUR_S
        m.receivers.refuse = lambda address, message: Undelivered("no") if "pay:bad" in message.id else None
        m.start()
        await m.pass_time()
        for key in ("bad", "good", "better"):
            await m.do(begin(key))
        await m.pass_time(900)
        assert sorted(m.receivers.told()) == ["better asked/1 ben", "good asked/1 ben"]
        assert len(m.receivers.refused) > 1

    play(tmp_path, ROLES, scene, **TWO)


def test_after_a_day_of_attempts_a_notice_is_undelivered_and_says_why(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.receivers.refuse = lambda address, message: Undelivered("503") if "ana" in address else None
        m.start()
        await m.do(begin())
        await m.pass_time(12 * HOUR_S)
        m.kill()  # the day counts from the first attempt, also of another process
        m.start("two")
        await m.pass_time(14 * HOUR_S)
        [said] = [said for (own_id, _), said in (await m.notices()).items() if own_id.endswith("/asked/1/ana")]
        assert [one.status for one in said] == ["due", "undelivered"]
        assert said[-1].reason == "503"
        pauses = [round(b.at_s - a.at_s) for a, b in zip(m.receivers.refused, m.receivers.refused[1:], strict=False)]
        assert len(pauses) < 60
        assert max(pauses) <= HOUR_S + 2 * LOOK_S

    play(tmp_path, ROLES, scene, role="finance", quorum=2)


def test_what_can_never_be_delivered_is_not_tried_again(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.receivers.refuse = lambda address, message: Undelivered("410", is_final=True)
        m.start()
        await m.do(begin())
        await m.pass_time(HOUR_S)
        assert len(m.receivers.refused) == 1
        assert await m.statuses() == {"asked/1 ana": "undelivered"}

    play(tmp_path, ROLES, scene, **TWO)


def test_the_first_start_tells_what_is_open_and_people_in_one_message(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ben", ana=Channel(slack="https://slack/"))
        for number in range(30):
            await m.do(begin(f"n{number}"))
        for number in range(5):
            await m.do(lambda p, n=number: [p.vote(one, key=f"n{n}") for one in ("ana", "ben")])  # type: ignore[misc]
        m.start()
        await m.pass_time()
        assert len(m.receivers.told("https://ben/")) == 25
        [slack] = [one.message for one in m.receivers.arrived if one.kind == "slack"]
        assert slack.title == "25 approvals: Pay 5?, and others"
        assert "... and 5 more: mesh approvals --mine" in slack.text
        said = [one[-1] for one in (await m.notices()).values() if one[-1].channel == "slack"]
        assert {one.status for one in said} == {"sent"}
        assert sum(not one.message for one in said) == 1

    play(tmp_path, ROLES, scene, **TWO)


def test_an_empty_folder_tells_nothing_twice(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start()
        for key in ("a", "b", "c"):
            await m.do(begin(key))
        await m.do(lambda p: [p.vote(one, key="c") for one in ("ana", "ben")])
        await m.pass_time()
        told = len(m.receivers.arrived)
        m.kill()
        m.start("two", folder="another")
        await m.pass_time()
        assert len(m.receivers.arrived) == told

    play(tmp_path, ROLES, scene, **TWO)


def test_two_notifiers_share_the_work_and_one_takes_over_from_the_other(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start("one")
        m.start("two")
        await m.pass_time()
        keys = [f"n{number}" for number in range(20)]
        for key in keys:
            await m.do(begin(key))
        await m.pass_time()
        assert len({notice_partition(m.partition.task_id("review", key)) for key in keys}) == 4
        assert sorted(m.receivers.told()) == sorted(f"{key} asked/1 {who}" for key in keys for who in ("ana", "ben"))
        m.kill(0)
        await m.do(begin("late"))
        await m.do(lambda p: [p.vote(one, key=key) for key in keys for one in ("ana", "ben")])
        await m.pass_time(300)
        told = m.receivers.told()
        assert len(told) == len(set(told)) == 20 * 2 * 2 + 2

    play(tmp_path, ROLES, scene, **TWO)


def test_a_broker_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.pass_time()
        await m.do(begin())
        m.cluster.stop()
        await m.pass_time()
        assert m.receivers.told() == []
        m.cluster.start()
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_payloads_are_left_out_unless_a_setting_wants_them(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> list[Message]:
        await m.create(ana=Channel(webhook="https://ana/", email="ana@example.org"))
        m.start()
        await m.do(begin(amount=77))
        await m.pass_time()
        m.kill()
        m.start("two", include_payload=True, console_url="https://mesh.example.org/")
        await m.do(begin("other", amount=88))
        await m.pass_time()
        return [one.message for one in sorted(m.receivers.arrived, key=lambda one: (one.at_s // HOUR_S, one.kind))]

    found = play(tmp_path, ROLES, scene, **{**TWO, "ask": "Pay?"})
    texts = {one.id.partition("/")[0]: one.text for one in found if "\n" in one.text}
    assert "77" not in texts["pay:k"]
    assert '"amount": 88' in texts["pay:other"]
    assert "mesh approve pay:k/" in texts["pay:k"]
    assert "To answer: https://mesh.example.org/approval?id=pay%3Aother%2F" in texts["pay:other"]
