"""The notifier: who is told what and when, over deaths and restarts."""

from pathlib import Path

from notified_mesh import NotifiedMesh, begin, play

ROLES = {"ana": "finance", "ben": "finance legal", "cy": "legal"}


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
