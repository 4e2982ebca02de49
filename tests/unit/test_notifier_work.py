"""The notifier's work is that of changes and of due notices, however many approvals are open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from notified_mesh import HOUR_S, TOPICS, NotifiedMesh, begin, play

from mesh.codec.channels import Channel
from mesh.codec.notices import NOTICE_PARTITIONS, Notice, notice_id, notice_partition
from mesh.inspection.inbox import Inbox
from mesh.notifier import notifier as module
from mesh.notifier.file import NoticeFile, Position
from mesh.notifier.plan import plan
from mesh.notifier.waiting import Waiting

ROLES = {"ana": "finance", "ben": "finance legal", "cy": "legal"}
TWO = {"role": "finance", "quorum": 2, "deadline": "9h"}
MANY = 30


@contextmanager
def counting() -> Iterator[list[str]]:
    """The approvals that are planned meanwhile, each time."""
    planned: list[str] = []

    def counted(waiting: Waiting, *more: object) -> object:
        planned.append(waiting.approval_id.partition("/")[0].partition(":")[2])
        return plan(waiting, *more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "plan", counted)
        yield planned


async def many(m: NotifiedMesh) -> None:
    """Many approvals, all told."""
    await m.create("ana", "ben")
    m.start("one", folder="kept")
    for number in range(MANY):
        await m.do(begin(f"n{number}"))
    await m.pass_time()
    assert len(m.receivers.arrived) == 2 * MANY


def test_what_does_not_change_is_not_looked_at(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        with counting() as planned:
            await many(m)
            assert len(planned) == MANY
            await m.do(lambda p: p.vote("ana", key="n7"))
            await m.pass_time(HOUR_S)
            assert planned[MANY:] == ["n7"]
            # an hour before the deadline there is a reminder of each, and nothing besides
            await m.pass_time(7 * HOUR_S)
            assert len(planned) == 2 * MANY + 1

    play(tmp_path, ROLES, scene, **TWO)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_start_with_the_files_looks_at_what_has_changed_since(is_stopped: bool, tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await many(m)
        m.kill()
        if is_stopped:
            await m.do(lambda p: p.vote("ana", key="n7"))
            await m.do(begin("new"))
        with counting() as planned:
            m.start("two", folder="kept")
            await m.pass_time()
        assert sorted(planned) == (["n7", "new"] if is_stopped else [])
        assert len(m.receivers.arrived) == 2 * MANY + 2 * is_stopped

    play(tmp_path, ROLES, scene, **TWO)


def test_a_new_address_has_only_that_looked_at_which_may_wait_for_the_person(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await many(m)
        await m.do(lambda p: p.order("reassign", key="n3", roles=("legal",)))
        await m.pass_time()
        with counting() as planned:
            await m.set_channel("cy", Channel(webhook="https://cy/"))
            await m.pass_time()
        assert planned == ["n3"]
        assert m.receivers.told("https://cy/") == ["n3 stage/1 cy"]

    play(tmp_path, ROLES, scene, **TWO)


def forget(path: Path) -> None:
    path.unlink()


def put_back(path: Path) -> None:
    """As a crash leaves it between the inbox's file and the notifier's own."""
    file = NoticeFile.open(path.with_name("notices.sqlite"))
    file.looks.add_read([], "another")
    file.close()


@pytest.mark.parametrize("harm", [forget, put_back])
def test_where_the_files_do_not_fit_together_all_is_looked_at_and_nothing_told_twice(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await many(m)
        m.processes[-1].kill()
        await m.pass_time()
        harm(tmp_path / "kept" / "open.sqlite")
        with counting() as planned:
            m.start("two", folder="kept")
            await m.pass_time()
        assert len(planned) == MANY
        assert len(m.receivers.arrived) == 2 * MANY

    play(tmp_path, ROLES, scene, **TWO)


def test_an_end_that_only_the_inbox_has_seen_is_told(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana", "ben")
        m.start("one", folder="kept")
        await m.do(begin())
        await m.pass_time()
        m.kill()
        await m.do(lambda p: [p.vote(one) for one in ("ana", "ben")])
        # as far as a notifier came that died before it wrote what it had to look at
        async with Inbox(m.broker, TOPICS, tmp_path / "kept" / "open.sqlite", now_ms=m.clock.now_ms) as inbox:
            await inbox.catch_up()
        m.start("two", folder="kept")
        await m.pass_time()
        assert sorted(m.receivers.told()[2:]) == ["closed/1 ana", "closed/1 ben"]

    play(tmp_path, ROLES, scene, **TWO)


def test_partitions_of_another_notifier_are_looked_at_when_they_come(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await many(m)
        m.start("two")
        await m.pass_time()
        m.kill(0)
        with counting() as planned:
            for number in range(MANY):
                await m.do(lambda p, key=f"n{number}": p.vote("ana", key=key))  # type: ignore[misc]
            await m.pass_time(300)
            # those that have moved once because they came, whether they changed or not
            assert set(planned) == {f"n{number}" for number in range(MANY)}
            planned.clear()
            await m.pass_time(HOUR_S)
            assert planned == []

    play(tmp_path, ROLES, scene, **TWO)


LANES = [("ana", "email", 0), ("ana", "webhook", 1), ("ben", "email", 0), ("ben", "slack", 2), ("cy", "email", 3)]


def test_the_lanes_that_are_due_are_found_in_all_partitions(tmp_path: Path) -> None:
    file = NoticeFile.open(tmp_path / "n.sqlite")
    ids = {partition: id_in(partition) for partition in range(NOTICE_PARTITIONS)}
    for person, kind, partition in LANES:
        notices = [notice(ids[partition], person, kind, number) for number in (1, 2, 3)]
        file.take(partition, Position(1, b""), notices, [])
    everywhere = range(NOTICE_PARTITIONS)
    assert sorted(file.lanes(everywhere, 5)) == [(person, kind) for person, kind, _ in LANES]
    assert sorted(file.lanes([0, 3], 5)) == [("ana", "email"), ("ben", "email"), ("cy", "email")]
    file.pause("ben", "email", 9)
    assert sorted(file.lanes([0], 8)) == [("ana", "email")]
    assert sorted(file.lanes([0], 9)) == [("ana", "email"), ("ben", "email")]
    file.settle([notice(ids[0], "ana", "email", number, status="sent") for number in (1, 2, 3)])
    assert file.lanes([0], 8) == []
    file.close()


def id_in(partition: int) -> str:
    found = (f"pay:{number}/r/review" for number in range(1_000))
    return next(one for one in found if notice_partition(one) == partition)


def notice(approval_id: str, person: str, kind: str, number: int, **more: Any) -> Notice:
    own_id = notice_id(approval_id, "asked", number, person)
    at = "2026-11-24T09:00:00.000Z"
    channel: Any = kind
    return Notice(
        id=own_id, what="asked", number=number, person=person, channel=channel, at=at, approval_id=approval_id, **more
    )
