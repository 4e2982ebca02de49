"""The notifier's files are caches: lost, damaged, or of another broker, nothing is told twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
from notified_mesh import TOPICS, NotifiedMesh, begin, play

from mesh.codec.channels import Channel
from mesh.codec.notices import NOTICE_PARTITIONS
from mesh.errors import TopicMissing
from mesh.notifier.closings import closings
from mesh.notifier.couriers import Undelivered
from mesh.notifier.file import NoticeFile
from mesh.ports import OutRecord

ROLES = {"ana": "finance", "ben": "finance"}
TWO = {"role": "finance", "quorum": 2, "deadline": "9h"}


def damage(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), damage])
def test_a_file_that_is_lost_or_damaged_is_made_again(harm: Callable[[Path], None], tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        notifier = m.start()
        await m.do(begin())
        await m.pass_time()
        notifier.stop()
        await m.pass_time()
        for name in ("notices.sqlite", "open.sqlite"):
            for path in (tmp_path / "one").glob(f"{name}-*"):
                path.unlink()
            harm(tmp_path / "one" / name)
        m.start("two", folder="one")
        await m.do(begin("next"))
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana", "next asked/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


@pytest.mark.parametrize("is_longer", [True, False])
def test_the_file_of_another_broker_counts_for_nothing(is_longer: bool, tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh, keys: list[str]) -> list[str]:
        await m.create("ana")
        m.start(folder="same")
        for key in keys:
            await m.do(begin(key))
        await m.pass_time()
        return m.receivers.told()

    first, second = ["a", "b", "c"], ["a", "b", "c", "d", "e", "f", "g", "h"]
    for number, keys in enumerate((second, first) if is_longer else (first, second)):
        told = play(tmp_path, ROLES, lambda m, keys=keys: scene(m, keys), ask=f"Pay {number}?", **TWO)  # type: ignore[misc]
        assert sorted(told) == [f"{key} asked/1 ana" for key in keys]


def test_what_nobody_can_read_is_passed_over(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        keys = (b"request/pay:x/r/review", b"standing/pay:x/r/review", b"junk")
        await m.send([OutRecord(TOPICS.open_approvals, key, b"{", (), 0) for key in keys])
        await m.send([OutRecord(TOPICS.notices, b"k", b"{", (), 0), OutRecord(TOPICS.people, b"channel/ben", b"{")])
        await m.send([OutRecord(TOPICS.receipts, b"k", b"{", (), 0)])
        m.start()
        await m.do(begin())
        await m.pass_time()
        await m.do(lambda p: [p.vote(one) for one in ("ana", "ben")])
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana", "closed/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_mesh_without_the_topics_is_told_what_to_do(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        notifier = m.make("one")
        with pytest.raises(TopicMissing, match="mesh topics apply"):
            await notifier.run()

    play(tmp_path, ROLES, scene, **TWO)


def test_a_version_of_the_people_that_nobody_can_read_changes_nothing(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.pass_time()
        body = b'{"people": "sha256:%b", "by": "x"}' % (b"0" * 64)
        await m.send([OutRecord(TOPICS.people, b"activation/z", body, (), 0)])
        await m.do(begin())
        await m.pass_time()
        assert m.receivers.told() == ["asked/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_close_whose_receipt_never_comes_is_told_without_a_verdict(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.do(begin())
        await m.pass_time()
        approval_id = m.partition.task_id("review")
        assert await closings(m.broker, TOPICS, {approval_id: m.clock.now_ms()}) == {}
        await m.do(lambda p: [p.vote(one) for one in ("ana", "ben")], receipts=False)
        await m.pass_time(120)
        assert m.receivers.told() == ["asked/1 ana", "closed/1 ana"]
        assert m.receivers.arrived[-1].message.title == "Closed: Pay 5?"

    play(tmp_path, ROLES, scene, **TWO)


def test_a_notice_that_the_broker_refuses_is_planned_again_later(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.start()
        await m.pass_time()
        await m.do(begin())
        m.cluster.max_record_bytes, allowed = 700, m.cluster.max_record_bytes
        await m.pass_time(300)
        assert m.receivers.told() == []
        m.cluster.max_record_bytes = allowed
        await m.pass_time(300)
        assert m.receivers.told() == ["asked/1 ana"]

    play(tmp_path, ROLES, scene, **{**TWO, "ask": "Pay? " + "x" * 500})


def test_new_addresses_are_tried_at_once(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create("ana")
        m.receivers.refuse = lambda address, message: Undelivered("gone") if address == "https://ana/" else None
        m.start()
        await m.do(begin())
        await m.pass_time(4 * 3_600)
        await m.set_channel("ana", Channel(webhook="https://other/"))
        await m.pass_time()
        assert m.receivers.told("https://other/") == ["asked/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_change_has_an_approval_looked_at_now_whenever_it_was_to_be(tmp_path: Path) -> None:
    file = NoticeFile.open(tmp_path / "n.sqlite")
    looks, everywhere = file.looks, range(NOTICE_PARTITIONS)
    assert looks.due(everywhere, 1, 10) == []
    looks.add_now(["a", "b"])
    assert sorted(looks.due(everywhere, 0, 10)) == ["a", "b"]
    looks.looked([("a", 7), ("b", None)])
    assert (looks.due(everywhere, 6, 10), looks.due(everywhere, 7, 10)) == ([], ["a"])
    looks.add_of_people(["a", "b"], {})
    assert sorted(looks.due(everywhere, 0, 10)) == ["a", "b"]
    file.close()
