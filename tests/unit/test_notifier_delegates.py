"""Who answers for somebody who is away is told in their place."""

from pathlib import Path
from typing import Any

from notified_mesh import HOUR_S, TOPICS, NotifiedMesh, begin, play

from mesh.codec.channels import Channel
from mesh.codec.delegations import encode_personal
from mesh.core.delegations import Absence, Delegation, DelegationEnd, PersonalRecord

ROLES = {"ana": "finance", "ben": "finance", "cy": "clerk", "dan": "clerk"}
TWO = {"role": "finance", "quorum": 2, "deadline": "2h"}


async def write(m: NotifiedMesh, *records: PersonalRecord) -> None:
    """As who grants roles does it for somebody."""
    await m.send([encode_personal(one, topics=TOPICS, at_ms=m.clock.now_ms()) for one in records])
    await m.pass_time(60)


def away(m: NotifiedMesh, person: str, hours: float) -> Absence:
    now_ms = m.clock.now_ms()
    return Absence(person=person, start_ms=now_ms, until_ms=now_ms + int(hours * 3_600_000), said_ms=now_ms, by="ops")


def delegated(m: NotifiedMesh, giver: str, to: str, hours: float, **scope: Any) -> Delegation:
    now_ms = m.clock.now_ms()
    until_ms = now_ms + int(hours * 3_600_000)
    return Delegation(id=f"o-{giver}-{to}", giver=giver, to=to, start_ms=now_ms, until_ms=until_ms, by="ops", **scope)


async def began(m: NotifiedMesh, *said: PersonalRecord) -> None:
    await m.create(*ROLES)
    m.start()
    await write(m, *said)
    await m.do(begin())
    await m.pass_time()


def test_who_answers_for_somebody_who_is_away_is_told_in_their_place_and_how(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m, away(m, "ben", 24), delegated(m, "ben", "cy", 24))
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 cy"]
        [message] = [one.message for one in m.receivers.arrived if one.address.startswith("https://cy")]
        assert message.body["data"]["for"] == "ben"
        assert message.body["data"]["command"].endswith("/review --for ben")
        assert "for        ben, who is away" in message.text
        # and is reminded, where the absent one is not
        await m.pass_time(1.5 * HOUR_S)
        assert sorted(m.receivers.told())[2:] == ["reminder/1 ana", "reminder/1 cy"]

    play(tmp_path, ROLES, scene, **TWO)


def test_without_a_delegate_who_is_away_is_told_once_and_a_delegate_is_not_told_of_who_is_there(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m, away(m, "ben", 24), delegated(m, "ana", "cy", 24))
        await m.pass_time(1.5 * HOUR_S)
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 ben", "reminder/1 ana"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_delegation_counts_within_its_scope_alone(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        elsewhere = delegated(m, "ben", "cy", 24, routes=("other",))
        await began(m, away(m, "ben", 24), elsewhere, delegated(m, "ben", "dan", 24, roles=("legal",)))
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 ben"]

    play(tmp_path, ROLES, scene, **TWO)


def test_who_comes_back_is_told_and_a_delegate_who_can_t_answer_any_more_is_left_alone(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m, away(m, "ben", 0.5), delegated(m, "ben", "cy", 24))
        await m.pass_time(0.75 * HOUR_S)
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 ben", "asked/1 cy"]
        await write(m, DelegationEnd(id="o-ben-cy", by="ben"))
        await m.pass_time(0.75 * HOUR_S)
        assert sorted(m.receivers.told())[3:] == ["reminder/1 ana", "reminder/1 ben"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_person_who_has_voted_is_not_asked_for_somebody_else(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await began(m)
        await m.do(lambda p: p.vote("ana"))
        await write(m, away(m, "ben", 24), delegated(m, "ben", "ana", 24))
        await m.pass_time(1.5 * HOUR_S)
        assert sorted(m.receivers.told()) == ["asked/1 ana", "asked/1 ben"]

    play(tmp_path, ROLES, scene, **TWO)


def test_a_digest_has_what_waits_for_who_is_away(tmp_path: Path) -> None:
    async def scene(m: NotifiedMesh) -> None:
        await m.create(cy=Channel(webhook="https://cy/", digest="08:00@UTC"))
        m.start()
        await write(m, away(m, "ben", 48), delegated(m, "ben", "cy", 48))
        await m.do(begin())
        await m.pass_time(25 * HOUR_S)
        digests = [one.message for one in m.receivers.arrived if one.message.id.startswith("digest")]
        assert [one.body["data"]["total"] for one in digests] == [1]

    play(tmp_path, ROLES, scene, **{**TWO, "deadline": "72h"})
