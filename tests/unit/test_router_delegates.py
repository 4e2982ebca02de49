"""A router takes what people say of themselves, and judges answers by what was in force then."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from signed_mesh import TOPICS, SignedMesh, lead
from signing_kit import header, key, with_signature

from mesh.codec.approvals import Personal, Receipt
from mesh.codec.delegations import decode_personal, encode_personal
from mesh.codec.jws_bodies import encode_signed
from mesh.codec.times import rfc3339
from mesh.core.activation import DELAY_MS
from mesh.core.delegations import Absence, Delegation, DelegationEnd, PersonalRecord
from mesh.core.people import Person
from mesh.inspection.audit.bundle import read_bundle
from mesh.inspection.audit.verify import verify
from mesh.testing.virtual_time.loop import VirtualTimeLoop, run

HOUR_MS = 3_600_000
ROUTE = """\
route: pay
on: {type: t}
key: ${{ event.id }}
steps:
  review: {approval: {ask: Pay?, payload: {n: 1}, role: lead, quorum: 2}}
"""
FIRST = ROUTE.replace(", quorum: 2", "")


class Mesh(SignedMesh):
    """With ana, ben and eve, who are leads, and fay, who is none."""

    async def start(self) -> None:
        await self.begin(lead("ana", "slack:U1"), lead("ben"), lead("eve"), Person(id="fay"))
        await self.write(self.key_of("fay"))
        await self.settle()

    async def settle(self) -> None:
        """Wait until what was said is in effect."""
        await asyncio.sleep(DELAY_MS / 1_000)

    async def say(self, decision: str, by: str, **more: Any) -> Receipt:
        """Something in bare JSON."""
        return await self.send(json.dumps({"decision": decision, "by": by, **more}).encode())

    async def sign(self, decision: str, by: str, **more: Any) -> Receipt:
        return await self.send(self.signed(decision, by, **more))

    def signed(self, decision: str, by: str, **more: Any) -> bytes:
        said = self.body(("", ""), by, decision=decision, **more)
        body = {name: value for name, value in said.items() if value}
        return encode_signed(with_signature(header(by), body, by), None, is_edit=False)

    def in_hours(self, hours: int = 1) -> str:
        return rfc3339(self.clock.now_ms() + hours * HOUR_MS)

    async def vote(self, approval: tuple[str, str], by: str, on_behalf: str = "") -> Receipt:
        more = {"for": on_behalf} if on_behalf else {}
        return await self.say("approve", by, approval_id=approval[0], digest=approval[1], **more)

    def personal(self) -> list[PersonalRecord]:
        found = [decode_personal(record) for record in self.landed(TOPICS.delegations)]
        return [one for one in found if one is not None]


def play(story: Callable[[Mesh], Awaitable[None]], **more: Any) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        mesh = Mesh(loop, **{"answers": "none", "route": ROUTE, **more})
        await mesh.start()
        await story(mesh)
        await mesh.stop()

    run(main)


def test_who_may_only_answer_lets_somebody_answer_for_them_and_takes_it_back() -> None:
    async def story(mesh: Mesh) -> None:
        approval = await mesh.ask()
        assert (await mesh.vote(approval, "fay", "ana")).code == "delegation"
        given = await mesh.say("delegate", "slack:U1", to="fay", until=mesh.in_hours())
        assert (given.status, given.code, given.by, given.closed) == ("accepted", "delegated", "ana", False)
        [one] = mesh.personal()
        assert isinstance(one, Delegation)
        assert (one.giver, one.to, one.by, one.signed) == ("ana", "fay", "ana", "none")
        assert one.id in given.message
        # its record is not in effect yet
        assert (await mesh.vote(approval, "fay", "ana")).code == "delegation"
        await mesh.settle()
        voted = await mesh.vote(approval, "fay", "slack:U1")
        assert (voted.code, voted.by, voted.on_behalf, voted.have) == ("counted", "fay", "ana", 1)
        assert (await mesh.say("end", "ben", delegation=one.id)).code == "unknown"
        assert (await mesh.say("end", "ana", delegation=one.id, reason="back")).code == "ended"
        await mesh.settle()
        assert mesh.personal()[1:] == [DelegationEnd(id=one.id, by="ana", reason="back")]
        assert (await mesh.say("end", "ana", delegation=one.id)).code == "unknown"
        # what was counted stays, and nothing more is
        assert (await mesh.vote(approval, "ben")).code == "accepted"
        assert (await mesh.vote(await mesh.ask(), "fay", "ana")).code == "delegation"

    play(story)


def test_an_approval_of_one_answer_is_answered_by_a_delegate() -> None:
    async def story(mesh: Mesh) -> None:
        approval = await mesh.ask()
        await mesh.say("delegate", "ana", to="fay", until=mesh.in_hours(), roles=["lead"], routes=["pay"])
        await mesh.settle()
        found = await mesh.vote(approval, "fay", "ana")
        assert (found.code, found.verdict, found.by, found.on_behalf) == ("accepted", "approved", "fay", "ana")

    play(story, route=FIRST)


def test_what_is_sent_again_never_revives_what_was_ended() -> None:
    async def story(mesh: Mesh) -> None:
        sent = mesh.signed("delegate", "ana", to="fay", until=mesh.in_hours(30))
        assert (await mesh.send(sent)).code == "delegated"
        assert (await mesh.send(sent)).code == "delegated", "its record is not in effect, and the second is the same"
        await mesh.settle()
        assert (await mesh.send(sent)).code == "repeated"
        [one, same] = mesh.personal()
        assert isinstance(one, Delegation)
        assert isinstance(same, Delegation)
        assert (one.id, one.until_ms) == (same.id, same.until_ms)
        assert one.signed == "own"
        await mesh.sign("end", "ana", delegation=one.id)
        await mesh.settle()
        assert (await mesh.send(sent)).code == "repeated"
        await mesh.settle()
        assert (await mesh.vote(await mesh.ask(), "fay", "ana")).code == "delegation"

    play(story)


def test_what_must_be_signed_is_delegated_by_a_signature_alone() -> None:
    async def story(mesh: Mesh) -> None:
        approval = await mesh.ask()
        about: dict[str, Any] = {"approval_id": approval[0], "digest": approval[1]}
        # anybody may send that
        assert (await mesh.say("delegate", "ana", to="fay", until=mesh.in_hours())).code == "delegated"
        await mesh.settle()
        refused = await mesh.sign("approve", "fay", **about, **{"for": "ana"})
        assert (refused.code, "must be signed" in refused.message) == ("delegation", True)
        assert (await mesh.sign("delegate", "ana", to="fay", until=mesh.in_hours())).code == "delegated"
        await mesh.settle()
        assert (await mesh.sign("approve", "fay", **about, **{"for": "ana"})).code == "counted"
        assert (await mesh.sign("approve", "ben", **about)).code == "accepted"
        report = verify(read_bundle(mesh.bundle(approval)))
        assert (report.failures, report.signed) == ((), 3)

    play(story, route=ROUTE.replace("quorum: 2", "quorum: 2, signed: own"))


def test_unsigned_words_are_refused_where_all_must_be_signed() -> None:
    async def story(mesh: Mesh) -> None:
        assert (await mesh.say("delegate", "ana", to="fay", until=mesh.in_hours())).code == "unsigned"
        assert (await mesh.say("absent", "ana", until=mesh.in_hours())).code == "unsigned"
        receipt = await mesh.client.say(
            "delegate",
            by="ana",
            to="fay",
            personal=Personal(until_ms=mesh.clock.now_ms() + HOUR_MS),
            key=key("ana"),
        )
        assert (receipt.code, receipt.approval_id) == ("delegated", "")

    play(story, answers="own")


def test_nobody_delegates_what_can_not_be() -> None:
    async def story(mesh: Mesh) -> None:
        for by, more, said in (
            ("ana", {"to": "zoe", "until": mesh.in_hours()}, "nobody is called zoe"),
            ("zoe", {"to": "ana", "until": mesh.in_hours()}, "nobody is called zoe"),
            ("ana", {"to": "slack:U1", "until": mesh.in_hours()}, "to themself"),
            ("ana", {"to": "fay", "until": mesh.in_hours(24 * 90 + 1)}, "longer than 90 days"),
            ("ana", {"to": "fay", "until": mesh.in_hours(1), "start": mesh.in_hours(2)}, "before it begins"),
            ("ana", {"to": "fay", "until": mesh.in_hours(-1)}, "before it begins"),
        ):
            receipt = await mesh.say("delegate", by, **more)
            assert (receipt.status, receipt.code) == ("refused", "delegation")
            assert said in receipt.message
        assert (await mesh.say("end", "ana", delegation="d-0")).code == "unknown"
        assert mesh.personal() == []

    play(story)


def test_one_person_has_so_many_delegations_and_no_more() -> None:
    async def story(mesh: Mesh) -> None:
        for _ in range(50):
            assert (await mesh.say("delegate", "ana", to="fay", until=mesh.in_hours())).code == "delegated"
        await mesh.settle()
        assert (await mesh.say("delegate", "ana", to="fay", until=mesh.in_hours())).code == "limit"
        assert (await mesh.say("delegate", "ben", to="fay", until=mesh.in_hours())).code == "delegated"

    play(story)


def test_who_is_away_says_so_and_may_answer_all_the_same() -> None:
    async def story(mesh: Mesh) -> None:
        assert (await mesh.say("absent", "slack:U1", until=mesh.in_hours(5), reason="leave")).code == "absent"
        [away] = mesh.personal()
        assert isinstance(away, Absence)
        assert (away.person, away.by, away.reason) == ("ana", "ana", "leave")
        assert away.holds_at(mesh.clock.now_ms())
        assert (await mesh.vote(await mesh.ask(), "ana")).code == "counted"
        assert (await mesh.say("absent", "ana", until=mesh.in_hours(-1))).code == "absent"
        back = mesh.personal()[-1]
        assert isinstance(back, Absence)
        assert back.start_ms == back.until_ms, "until now: they are back"

    play(story)


def test_a_record_of_who_grants_roles_is_as_good_and_one_that_is_too_long_is_none() -> None:
    async def story(mesh: Mesh) -> None:
        now_ms = mesh.clock.now_ms()
        one = Delegation(
            id="by-ops", giver="ana", to="fay", start_ms=now_ms, until_ms=now_ms + HOUR_MS, by="ops", signed="own"
        )
        long = Delegation(id="long", giver="ben", to="fay", start_ms=now_ms, until_ms=now_ms + 91 * 24 * HOUR_MS)
        for record in (one, long):
            await mesh.write(encode_personal(record, topics=TOPICS, at_ms=now_ms))
        await mesh.settle()
        approval = await mesh.ask()
        assert (await mesh.vote(approval, "fay", "ben")).code == "delegation"
        assert (await mesh.vote(approval, "fay", "ana")).code == "counted"

    play(story)


def test_what_can_not_be_read_has_a_receipt_too() -> None:
    async def story(mesh: Mesh) -> None:
        for decision, more in (
            ("delegate", {"to": "fay"}),
            ("delegate", {"to": "fay", "until": "tomorrow"}),
            ("delegate", {"to": "fay", "until": mesh.in_hours(), "roles": []}),
            ("delegate", {"to": "fay", "until": mesh.in_hours(), "approval_id": "pay:e0/1/review"}),
            ("delegate", {"to": "f" * 201, "until": mesh.in_hours()}),
            ("end", {}),
            ("absent", {"until": mesh.in_hours(), "to": "fay"}),
            ("approve", {}),
            ("approve", {"approval_id": "pay:e0/4f2a9c01/review", "until": mesh.in_hours()}),
            ("withdraw", {"approval_id": "pay:e0/4f2a9c01/review", "for": "ana"}),
            ("approve", {"approval_id": "pay:e0/4f2a9c01/review", "for": "ana", "payload": {"n": 2}}),
        ):
            receipt = await mesh.say(decision, "ana", **more)
            assert (receipt.status, receipt.code) == ("refused", "malformed"), (decision, more, receipt)

    play(story)


def test_an_audit_finds_a_delegation_that_was_made_up_changed_or_left_out() -> None:
    async def story(mesh: Mesh) -> None:
        approval = await mesh.ask()
        await mesh.sign("delegate", "ana", to="fay", until=mesh.in_hours(), roles=["lead"])
        await mesh.settle()
        about: dict[str, Any] = {"approval_id": approval[0], "digest": approval[1], "for": "slack:U1"}
        assert (await mesh.sign("approve", "fay", **about)).code == "counted"
        lines = mesh.bundle(approval)
        assert verify(read_bundle(lines)).failures == ()
        for change, said in (
            (lambda body: body | {"to": "ben"}, "they signed another"),
            (lambda body: body | {"roles": ["boss"]}, "another time or scope"),
            (lambda body: body | {"jws": "x"}, "does not hold"),
            (lambda body: body | {"signed": "none", "routes": ["other"]}, "does not cover the route"),
            (lambda _: None, "is not here"),
        ):
            found = [fault.what for fault in verify(read_bundle(_changed(lines, change))).failures]
            assert any(said in what for what in found), (said, found)

    play(story)


def _changed(lines: list[bytes], change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> list[bytes]:
    """The bundle with another delegation; None: without it."""
    found = []
    for line in lines:
        record = json.loads(line)
        if "said" in record:
            body = change(json.loads(record["value"]))
            if body is None:
                continue
            line = json.dumps(record | {"value": json.dumps(body)}).encode()  # noqa: PLW2901 - the line as it is now
        found.append(line)
    return found
