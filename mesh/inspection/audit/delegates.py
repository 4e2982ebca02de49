"""Check a vote for somebody else: was the delegation in force, and does it cover the vote?

Owns the auditor's own reading of delegations, from the records of people in the bundle. It takes no
word of the log for it. `mesh.inspection.audit.verify` calls it.
"""

from collections.abc import Iterator

from mesh.codec.signed_answers import Judge, Wrong, of_this_mesh, proof_by, signed_body
from mesh.codec.times import parse_rfc3339
from mesh.core.delegations import Delegation, KnownDelegation
from mesh.core.ids import route_of
from mesh.core.people import People, further_names, id_of, person_of
from mesh.core.signing import LEVELS, Level
from mesh.core.voting import Body
from mesh.inspection.audit.bundle import Bundle


def why_no_delegation(
    bundle: Bundle, delegation_id: str, *, by: str, on_behalf: str, level: Level, at_ms: int
) -> Iterator[str]:
    """What does not hold of the delegation under which an answer was given at this time."""
    known = bundle.delegations.get(delegation_id)
    if known is None:
        yield f"{by} has answered for {on_behalf}, and the delegation {delegation_id or '?'} is not here"
        return
    one, people = known.delegation, bundle.people_at(at_ms)
    if (_id(people, one.giver), _id(people, one.to)) != (_id(people, on_behalf), _id(people, by)):
        yield f"the delegation {one.id} is from {one.giver} to {one.to}, and {by} has answered for {on_behalf}"
    if not known.is_in_force(at_ms):
        yield f"the delegation {one.id} was not in force when {by} answered for {on_behalf}"
    if not one.covers(route_of(bundle.head.workflow_id)):
        yield f"the delegation {one.id} does not cover the route, and {by} has answered for {on_behalf}"
    if LEVELS.index(one.signed) < LEVELS.index(level):
        yield f"the delegation {one.id} is not signed as the approval asks"
    # routers write these, so what they say of a signature is checked again
    if known.is_said and one.signed != "none":
        yield from _why_not_signed(bundle, known, people)


def _why_not_signed(bundle: Bundle, known: KnownDelegation, people: People | None) -> Iterator[str]:
    one, roles = known.delegation, {} if people is None else people.roles
    judge = Judge(mesh=bundle.head.mesh, key=bundle.keys.get, people=people, roles=roles)
    try:
        body, key = signed_body(one.jws, judge.key)
        of_this_mesh(body, judge)
        proof_by(key, body, by=one.giver, approval_id="", at_ms=known.from_ms, judge=judge)
    except Wrong as wrong:
        yield f"the signature of the delegation {one.id} does not hold: {wrong}"
        return
    said = (body.get("decision"), _id(people, str(body.get("by"))), _id(people, str(body.get("to"))))
    scope = (body.get("until"), body.get("roles") or [], body.get("routes") or [])
    until_ms = parse_rfc3339(scope[0]) if isinstance(scope[0], str) else 0
    if said != ("delegate", _id(people, one.giver), _id(people, one.to)):
        yield f"the delegation {one.id} is from {one.giver} to {one.to}, and they signed another"
    if (until_ms, *scope[1:]) != (one.until_ms, [*one.roles], [*one.routes]):
        yield f"the delegation {one.id} says another time or scope than {one.giver} has signed"


def giver_body(bundle: Bundle, people: People, delegation_id: str, on_behalf: str) -> Body:
    """The person that it was for, with the roles that the delegation covers."""
    known = bundle.delegations.get(delegation_id)
    one: Delegation | None = None if known is None else known.delegation
    person = people.named(on_behalf)
    held = frozenset[str]() if person is None else person.roles
    scope = frozenset(() if one is None else one.roles)
    names = further_names(people, on_behalf)
    return Body(person_of(on_behalf), held & scope if scope else held, names, by_roles=bool(scope))


def _id(people: People | None, name: str) -> str:
    return person_of(id_of(people, name))
