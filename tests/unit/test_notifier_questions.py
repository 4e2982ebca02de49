"""Notices of questions that were asked back: to who can answer them, and to who asked."""

from pathlib import Path

import pytest
from notified_mesh import HOUR_S, NotifiedMesh, begin, play

from mesh.notifier.couriers import Undelivered

ROLES = {"ana": "finance", "ben": "finance legal", "cy": "legal", "dee": "clerk", "eli": "clerk"}
TWO = {"role": "finance", "quorum": 2, "deadline": "9h"}
CLERKS = {**TWO, "ask_back": {"to": [{"role": "clerk"}], "limit": 3}}


async def asked(m: NotifiedMesh, text: str = "what for?") -> None:
    await m.do(lambda p: p.vote("ana", "ask", text=text))
    await m.pass_time()


def of_questions(m: NotifiedMesh) -> list[str]:
    return sorted(one for one in m.receivers.told() if one.startswith(("question", "answered")))


async def began(m: NotifiedMesh) -> None:
    await m.create(*ROLES)
    m.start()
    await m.do(begin())
    await m.pass_time()


def test_a_question_is_told_to_who_can_answer_it_and_the_answer_to_who_asked(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m)
        await asked(m)
        assert of_questions(m) == ["question/1 dee", "question/1 eli"]
        message = m.receivers.arrived[-1].message
        assert message.title == "ana asks you: what for?"
        assert message.body["data"]["command"].endswith("/review TEXT --question 1")
        assert message.body["data"]["command"].startswith("mesh inform pay:k/")
        assert message.text.endswith(message.body["data"]["command"])
        await m.do(lambda p: p.vote("dee", "inform", text="the flight"))
        await m.pass_time()
        assert of_questions(m) == ["answered/1 ana", "question/1 dee", "question/1 eli"]
        answered = m.receivers.arrived[-1].message
        assert answered.title == "dee has answered: the flight"
        assert answered.body["data"]["command"].startswith("mesh approve pay:k/")
        assert (answered.body["data"]["by"], answered.body["data"]["number"]) == ("dee", 1)
        # a second one has a number of its own, and everybody hears of the end
        await asked(m, "and when?")
        assert of_questions(m)[-2:] == ["question/2 dee", "question/2 eli"]
        await m.do(lambda p: [p.vote(one) for one in ("ana", "ben")])
        await m.pass_time()
        closed = sorted(one for one in m.receivers.told() if one.startswith("closed"))
        assert closed == ["closed/1 ana", "closed/1 ben", "closed/1 dee", "closed/1 eli"]

    play(tmp_path, ROLES, scene, **CLERKS)


def test_a_question_makes_nobody_one_who_may_answer_the_approval(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m)
        await asked(m)
        await m.pass_time(8.5 * HOUR_S)
        reminded = [one for one in m.receivers.told() if one.startswith("reminder")]
        assert sorted(reminded) == ["reminder/1 ana", "reminder/1 ben"]
        # who was only asked before gets a notice of the approval itself once it waits for them
        await m.do(lambda p: p.order("extend", by_ms=8 * 3_600_000))
        await m.do(lambda p: p.order("reassign", people=("dee",)))
        await m.pass_time()
        assert "stage/1 dee" in m.receivers.told()

    play(tmp_path, ROLES, scene, **CLERKS)


def test_a_notifier_that_saw_nothing_tells_how_the_questions_are_now(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create(*ROLES)
        await m.do(begin())
        await m.do(lambda p: p.vote("ana", "ask", text="one?"))
        await m.do(lambda p: p.vote("dee", "inform", text="yes"))
        await m.do(lambda p: p.vote("ben", "ask", text="two?"))
        m.start()
        await m.pass_time()
        told = ["answered/1 ana", "question/2 dee", "question/2 eli"]
        assert of_questions(m) == told
        m.kill()
        m.start("two")
        await m.pass_time()
        assert of_questions(m) == told

    play(tmp_path, ROLES, scene, **CLERKS)


def test_a_question_that_somebody_has_answered_meanwhile_is_not_sent(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m)
        m.receivers.refuse = lambda address, message: Undelivered("down") if "eli" in address else None
        await asked(m)
        await m.do(lambda p: p.vote("dee", "inform", text="yes"))
        await m.pass_time(HOUR_S)
        statuses = await m.statuses()
        assert statuses["question/1 eli"] == "dropped"
        assert statuses["question/1 dee"] == "sent"

    play(tmp_path, ROLES, scene, **CLERKS)


@pytest.mark.parametrize("is_reached", [True, False])
def test_the_requester_is_asked_by_name_and_nobody_else(is_reached: bool, tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "eli", *(["dee"] if is_reached else []))
        m.start()
        await m.do(begin())
        await asked(m)
        assert of_questions(m) == (["question/1 dee"] if is_reached else [])

    play(tmp_path, ROLES, scene, **TWO, requester="dee", ask_back={"to": "requester"})


def test_an_agents_answer_and_its_failure_are_told_to_who_asked(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m)
        await asked(m)
        assert of_questions(m) == []
        await m.do(lambda p: p.succeed("review.ask1", {"text": "a flight"}))
        await m.pass_time()
        assert m.receivers.arrived[-1].message.title == "agent researcher has answered: a flight"
        assert of_questions(m) == ["answered/1 ana"]

    play(tmp_path, ROLES, scene, **TWO, ask_back={"to": {"agent": "researcher"}})


def test_a_person_who_gets_an_address_is_told_what_they_were_asked(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start()
        await m.do(begin())
        await asked(m)
        assert of_questions(m) == []
        await m.set_channel("dee", m.webhook("dee"))
        await m.pass_time()
        assert of_questions(m) == ["question/1 dee"]

    play(tmp_path, ROLES, scene, **CLERKS)
