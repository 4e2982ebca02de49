"""People who let others answer for them, end that, and are away.

They say so themselves, or who grants roles does it for them; keys are revoked meanwhile. Owns when
who says what. `parties` begins it, `approvers` asks for whom somebody may try to answer.
"""

from typing import Final

from mesh.codec.approvals import Personal, encode_response
from mesh.codec.delegations import encode_personal
from mesh.core.delegations import Absence, Delegation, DelegationEnd
from mesh.core.inputs import AnswerKind
from mesh.ports import OutRecord
from mesh.testing.simulation import people
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.signers import PEOPLE, Signers

_SCOPES: Final = ((), (), (), ("maintainer",), ("lead",))
_VALID_S: Final = 2.5  # when the first keys are valid
_ROUTES: Final = ((), (), (), ("office",), ("vote",))


class PersonalWords:
    """All that people say of themselves, and that is said of them."""

    def __init__(self, ground: Ground, signers: Signers) -> None:
        self._ground = ground
        self._signers = signers
        self._given: list[tuple[str, str, str]] = []  # id (empty: not known yet), giver, to

    def begin(self, for_s: float) -> None:
        """Plan it, most of it at the beginning, so that it bears on many answers."""
        ground, rng = self._ground, self._ground.rng
        self._signers.begin()
        people.activate_hours(ground, people.CALENDARS[0])
        for _ in range(12):
            ground.later(rng.choice([_VALID_S, _VALID_S, rng.uniform(0, for_s)]), self._delegate)
        for _ in range(4):
            ground.later(rng.uniform(0, for_s), self._end)
            ground.later(rng.uniform(0, for_s), self._leave)
        for _ in range(rng.choice([1, 2, 4])):
            ground.later(rng.uniform(0, for_s), lambda: self._signers.renew(rng.choice(PEOPLE)))
            ground.later(rng.uniform(0, for_s), lambda: people.activate_hours(ground, rng.choice(people.CALENDARS)))
        ground.later(rng.uniform(0, for_s), self._mumble)

    def giver_for(self, by: str) -> str:
        """For whom somebody tries to answer: mostly who has delegated to them at some time."""
        rng = self._ground.rng
        own = [giver for _, giver, to in self._given if to == by]
        return rng.choice([*own, *own, *PEOPLE])

    def _delegate(self) -> None:
        ground, rng = self._ground, self._ground.rng
        giver, to = rng.sample(PEOPLE, 2)
        now_ms = ground.clock.now_ms()
        start_ms = now_ms + rng.choice([0, 0, 4_000, 12_000])
        until_ms = start_ms + rng.choice([3_000, 10_000, 30_000, 60_000])
        roles, routes = rng.choice(_SCOPES), rng.choice(_ROUTES)
        if rng.random() < 0.7:
            said = Personal(start_ms=start_ms, until_ms=until_ms, roles=roles, routes=routes)
            self._given.append(("", giver, to))
            self._say("delegate", giver, said, to=to)
            return
        one = Delegation(
            id=ground.fresh("o"),
            giver=giver,
            to=to,
            start_ms=start_ms,
            until_ms=until_ms,
            roles=roles,
            routes=routes,
            by="ops",
            signed="own",
        )
        self._given.append((one.id, giver, to))
        ground.note("operator", f"lets {to} answer for {giver}")
        ground.send(encode_personal(one, topics=ground.topics, at_ms=now_ms))

    def _end(self) -> None:
        ground, rng = self._ground, self._ground.rng
        known = [one for one in ground.promises.people.delegations.all() if one.ended_ms is None]
        if not known:
            return
        one = rng.choice(known).delegation
        if rng.random() < 0.7:
            self._say("end", one.giver, Personal(delegation=one.id))
        else:
            ground.note("operator", f"ends the delegation {one.id}")
            ended = DelegationEnd(id=one.id, by="ops")
            ground.send(encode_personal(ended, topics=ground.topics, at_ms=ground.clock.now_ms()))

    def _leave(self) -> None:
        """Be away, which takes no right: they may answer all the same."""
        ground, rng = self._ground, self._ground.rng
        person, now_ms = rng.choice(PEOPLE), ground.clock.now_ms()
        until_ms = now_ms + rng.choice([2_000, 30_000])
        if rng.random() < 0.7:
            self._say("absent", person, Personal(until_ms=until_ms))
        else:
            ground.note("operator", f"says that {person} is away")
            away = Absence(person=person, start_ms=now_ms, until_ms=until_ms, said_ms=now_ms, by="ops")
            ground.send(encode_personal(away, topics=ground.topics, at_ms=now_ms))

    def _mumble(self) -> None:
        """Send what nobody can read."""
        self._ground.send(OutRecord(self._ground.topics.responses, None, b"not an answer"))

    def _say(self, decision: AnswerKind, by: str, said: Personal, *, to: str = "") -> None:
        ground = self._ground
        ground.note("approver", f"{by} says {decision} {to or said.delegation}")
        record = encode_response(
            topics=ground.topics,
            approval_id="",
            decision=decision,
            by=by,
            to=to,
            answer_id=ground.fresh("word-of-a-person"),
            at_ms=ground.clock.now_ms(),
            personal=said,
            signer=self._signers.signer(by),
        )
        ground.send(*[record] * (1 + (ground.rng.random() < 0.1)))
