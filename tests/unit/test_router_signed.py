"""A router counts what a person has signed, once, and nothing else.

It judges keys as of the answer's broker time, as it judges roles.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from signed_mesh import ROUTE, SignedMesh, lead
from signing_kit import header, with_signature

from mesh.codec.jws_bodies import encode_signed
from mesh.core.activation import DELAY_MS
from mesh.core.approver_keys import SpeaksFor
from mesh.testing.virtual_time.loop import VirtualTimeLoop, run


def play(story: Callable[[SignedMesh], Awaitable[None]], **more: object) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        mesh = SignedMesh(loop, **more)  # type: ignore[arg-type]
        await story(mesh)
        await mesh.stop()

    run(main)


def test_two_signed_votes_bring_the_verdict() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        approval = await mesh.ask()
        first = await mesh.answer(approval, "ana")
        assert (first.code, first.have, first.by) == ("counted", 1, "ana")
        assert (await mesh.answer(approval, "ben")).code == "accepted"

    play(story)


def test_without_a_signature_or_with_a_forged_one_nothing_counts() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        approval = await mesh.ask()
        bare = {"approval_id": approval[0], "decision": "approve", "by": "ana", "digest": approval[1]}
        assert (await mesh.send(json.dumps(bare).encode())).code == "unsigned"
        forged = with_signature(header("ana"), mesh.body(approval, "ana"), "eve")
        assert (await mesh.send(encode_signed(forged, None, is_edit=False))).code == "signature"
        assert (await mesh.answer(approval, "eve")).code == "excluded", "a true signature gives no right"
        assert (await mesh.send(b'{"jws": "x"}')).code == "malformed"
        assert (await mesh.answer(approval, "ana")).have == 1

    play(story)


def test_an_answer_that_was_sent_counts_nowhere_else() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        one, other = await mesh.ask(), await mesh.ask()
        sent = encode_signed(with_signature(header("ana"), mesh.body(one, "ana"), "ana"), None, is_edit=False)
        assert (await mesh.send(sent)).have == 1
        assert (await mesh.send(sent)).code == "repeated"
        # the id of another approval outside the signature is no field of a signed answer
        with_id = json.dumps({**json.loads(sent), "approval_id": other[0]}).encode()
        assert (await mesh.send(with_id)).code == "malformed"
        elsewhere = with_signature(header("ana"), mesh.body(other, "ana", mesh="mesh.@other"), "ana")
        assert (await mesh.send(encode_signed(elsewhere, None, is_edit=False))).code == "signature"

    play(story)


def test_a_key_that_was_revoked_signs_nothing_more() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        approval = await mesh.ask()
        await mesh.write(mesh.end_of("ana"))
        assert (await mesh.answer(approval, "ana")).have == 1, "it does not hold yet"
        await asyncio.sleep(DELAY_MS / 1_000)
        refused = await mesh.answer(approval, "ana", decision="reject")
        assert (refused.code, refused.have) == ("key", 1), "its vote of before stays"
        assert (await mesh.answer(approval, "ben")).code == "accepted"

    play(story)


def test_an_edit_is_bound_by_its_digest() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        approval = await mesh.ask()
        edited = await mesh.answer(approval, "ana", payload={"n": 2})
        assert (edited.code, edited.edition) == ("counted", 2)

    play(story)


def test_a_gateway_speaks_for_whom_it_may_unless_the_route_wants_people_s_own_keys() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin()
        await mesh.write(mesh.key_of("console", speaks_for=SpeaksFor(roles=("lead",))))
        await asyncio.sleep(DELAY_MS / 1_000)
        approval = await mesh.ask()
        said = mesh.body(approval, "slack:U1", via={"signer": "console", "method": "slack"})
        receipt = await mesh.send(
            encode_signed(with_signature(header("console"), said, "console"), None, is_edit=False)
        )
        codes.append((receipt.code, receipt.by))

    codes: list[tuple[str, str]] = []
    play(story)
    play(story, route=ROUTE.replace("quorum: 2", "quorum: 2, signed: own"))
    assert codes == [("counted", "ana"), ("unsigned", "ana")]


def test_where_nobody_asks_for_signatures_those_that_come_are_checked_all_the_same() -> None:
    async def story(mesh: SignedMesh) -> None:
        await mesh.begin(lead("ana"), lead("ben"))
        approval = await mesh.ask()
        bare = {"approval_id": approval[0], "decision": "approve", "by": "ben", "digest": approval[1]}
        assert (await mesh.send(json.dumps(bare).encode())).have == 1
        forged = with_signature(header("ana"), mesh.body(approval, "ana"), "ben")
        assert (await mesh.send(encode_signed(forged, None, is_edit=False))).code == "signature"
        assert (await mesh.answer(approval, "ana")).code == "accepted"

    play(story, answers="none")
