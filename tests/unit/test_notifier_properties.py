"""For any course of approvals, receivers and deaths: each notice arrives, and counts once.

Two notifiers are started, killed, and started again with empty folders, while approvals are asked,
voted on, edited, moved and closed, and receivers refuse now and then. At the end all of it is well,
and one notifier has time to finish.
"""

import tempfile
from pathlib import Path
from typing import Any

from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from notified_mesh import LOOK_S, NotifiedMesh, begin, play

from mesh.codec.channels import Channel
from mesh.codec.notices import Notice
from mesh.notifier.couriers import Undelivered

ROLES = {"ana": "finance", "ben": "finance legal", "cy": "legal", "dee": "clerk"}
KEYS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(KEYS)),
    st.tuples(st.just("vote"), st.sampled_from(KEYS), st.sampled_from(["ana", "ben"])),
    st.tuples(st.just("edit"), st.sampled_from(KEYS), st.sampled_from(["ana", "ben"])),
    st.tuples(st.just("withdraw"), st.sampled_from(KEYS), st.sampled_from(["ana", "ben"])),
    st.tuples(st.just("extend"), st.sampled_from(KEYS)),
    st.tuples(st.just("reassign"), st.sampled_from(KEYS)),
    st.tuples(st.just("question"), st.sampled_from(KEYS), st.sampled_from(["ana", "ben"])),
    st.tuples(st.just("inform"), st.sampled_from(KEYS)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, LOOK_S + 1, 5 * LOOK_S, 3_600.0])),
    st.tuples(st.just("kill"), st.booleans()),
    st.tuples(st.just("refuse"), st.booleans()),
)


async def act(m: NotifiedMesh, step: tuple[Any, ...], number: int) -> None:
    """One step of the course. What makes no sense now is left out."""
    what, *rest = step
    match what:
        case "pass":
            await m.pass_time(rest[0])
        case "kill":
            m.kill()
            m.start(f"n{number}", folder="kept" if rest[0] else "")
        case "refuse":
            m.receivers.refuse = lambda address, message: Undelivered("not now") if rest[0] else None
        case "ask":
            if not is_asked(m, rest[0]):
                await m.do(begin(rest[0]))
        case _ if is_asked(m, rest[0]) and m.partition.step("review", rest[0]).status == "asking":
            await on_open(m, what, *rest)


def is_asked(m: NotifiedMesh, key: str) -> bool:
    return m.partition.id_of(key) in m.partition.state.workflows


async def on_open(m: NotifiedMesh, what: str, key: str, who: str = "") -> None:
    match what:
        case "vote":
            await m.do(lambda p: p.vote(who, key=key))
        case "edit":
            await m.do(lambda p: p.vote(who, "edit", key=key, payload={"amount": m.loop.time()}))
        case "withdraw":
            await m.do(lambda p: p.vote(who, "withdraw", key=key))
        case "extend":
            await m.do(lambda p: p.order("extend", key=key, by_ms=3_600_000))
        case "reassign":
            await m.do(lambda p: p.order("reassign", key=key, roles=("legal",)))
        case "question":
            await m.do(lambda p: p.vote(who, "ask", key=key, text="why?"))
        case "inform":
            await m.do(lambda p: p.vote("dee", "inform", key=key, text="so"))


def check(said: list[Notice], arrivals: int) -> None:
    """What the topic says of a notice at one address, and how often it arrived."""
    assert said[0].status == "due"
    ends = [one.status for one in said[1:]]
    assert ends, f"{said[0].id} is still due"
    # two may say the same of it, if one died before it could know: never another thing
    assert len(set(ends)) == 1, said
    assert "undelivered" not in ends
    if "sent" in ends and not said[-1].message:
        assert arrivals, f"{said[0].id} is sent and did not arrive"


def check_questions(m: NotifiedMesh, key: str, told: list[Notice]) -> None:
    """Of a question that waits, who was asked knows; of an answer, who asked."""
    state = m.partition.step("review", key).asking
    for number in range(1, 1 + (0 if state is None else state.asked)):
        is_open = state is not None and any(one.number == number for one in state.questions)
        what = "question" if is_open else "answered"
        assert any((one.what, one.number) == (what, number) for one in told)


@settings(max_examples=draws(25))
@given(steps=st.lists(STEPS, min_size=5, max_size=30))
def test_each_notice_arrives_at_least_once_and_counts_once(steps: list[tuple[Any, ...]]) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben", "dee", cy=Channel(email="cy@example.org"))
        m.start("first")
        for number, step in enumerate(steps):
            await act(m, step, number)
        m.receivers.refuse = lambda address, message: None
        await m.pass_time(2 * 3_600.0)
        arrived = [(one.message.id, one.kind) for one in m.receivers.arrived]
        notices = await m.notices()
        for own, said in notices.items():
            check(said, sum(one == own for one in arrived))
        # nothing arrives that is not on the topic
        assert {own for own, _ in arrived} <= {own for own, _ in notices}
        # all who may answer know of it, and all who were told know of the end
        for key in KEYS:
            if is_asked(m, key):
                told = [said[-1] for (own, _), said in notices.items() if own.startswith(f"pay:{key}/")]
                check_questions(m, key, told)
                assert {"ana", "ben"} <= {one.person for one in told if one.what in ("asked", "stage")}
                is_open = m.partition.step("review", key).status == "asking"
                closes = {one.person for one in told if one.what == "closed"}
                assert closes == (set() if is_open else {one.person for one in told if one.status == "sent"})

    with tempfile.TemporaryDirectory() as folder:
        play(
            Path(folder),
            ROLES,
            scene,
            role="finance",
            quorum=2,
            deadline="9h",
            remind={"every": "1h"},
            ask_back={"to": {"role": "clerk"}},
        )
