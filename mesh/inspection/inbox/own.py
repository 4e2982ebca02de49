"""What waits for a person: by their own roles, and for those who have delegated to them.

Owns what follows for the inbox from people and delegations. Routers decide by what they know: this
only says what to show.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mesh.core.delegations import KnownDelegation
from mesh.core.people import People, further_names, id_of, person_of
from mesh.inspection.inbox.entries import Mine


class Own(NamedTuple):
    """What waits for a person, and what they may answer for others."""

    mine: Mine
    others: tuple[Mine, ...]


def own_among(people: People, name: str, delegations: Sequence[KnownDelegation]) -> Own:
    """What waits for the person with this name. `delegations`: those in force."""
    mine = _mine(people, name)
    return Own(mine, tuple(_others(people, name, mine, delegations)))


def _mine(people: People, name: str) -> Mine:
    person = people.named(name)
    names = {person_of(name), *further_names(people, name)}
    return Mine(names=names, roles=frozenset() if person is None else person.roles)


def _others(people: People, name: str, own: Mine, delegations: Sequence[KnownDelegation]) -> Iterator[Mine]:
    """For whom the person may answer, and what. The wider delegations first."""
    for known in sorted(delegations, key=lambda one: bool(one.delegation.roles or one.delegation.routes)):
        one = known.delegation
        if person_of(id_of(people, one.to)) != person_of(id_of(people, name)):
            continue
        giver = id_of(people, one.giver)
        found = _mine(people, giver)
        roles = frozenset(found.roles) & frozenset(one.roles) if one.roles else found.roles
        yield Mine(
            names=found.names,
            roles=roles,
            giver=giver,
            routes=one.routes,
            by_roles=bool(one.roles),
            barred=own.names,
        )
