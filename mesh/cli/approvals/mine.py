"""What `--mine` means: who a person is, which roles they have, and for whom they may answer.

Owns what is looked up for it. Routers decide by what they know: this only says what to show.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mesh.cli.session import Session
from mesh.core.delegations import KnownDelegation
from mesh.core.people import People, further_names, id_of, person_of
from mesh.errors import BrokerUnavailable, OperatorError, TopicMissing
from mesh.inspection.inbox import Mine
from mesh.ports import Broker
from mesh.services.people import PeopleReader


class Own(NamedTuple):
    """What waits for a person, and what they may answer for others."""

    mine: Mine
    others: tuple[Mine, ...]

    def only_for(self, giver: str, people: People | None) -> Mine:
        """What the person may answer for this one. Raises `OperatorError` if nothing."""
        wanted = person_of(id_of(people, giver))
        found = [one for one in self.others if person_of(one.giver) == wanted]
        if not found:
            raise OperatorError(f"{giver} has delegated nothing to you: `mesh delegations` shows who has")
        return found[0]


async def own_of(session: Session, broker: Broker, name: str) -> tuple[Own, People | None]:
    """What `--mine` is about, and the people that say so."""
    now_ms = session.now_ms()
    reader = PeopleReader(broker, session.topics)
    try:
        await reader.start()
        people, delegations = reader.people_at(now_ms), reader.delegations.in_force(now_ms)
    except (TopicMissing, BrokerUnavailable):
        people, delegations = None, ()
    finally:
        await reader.close()
    people = _of_file(session) if people is None else people
    mine = _mine(people, name)
    return Own(mine, tuple(_others(people, name, mine, delegations))), people


def _of_file(session: Session) -> People:
    path = session.settings.approvers
    if not path.exists():
        raise OperatorError(
            f"--mine needs to know your roles, and there is no {path}:"
            " name the file in MESH_APPROVERS, or use --role ROLE"
        )
    from mesh.codec.approvers_file import load_people  # noqa: PLC0415 - slow to load, and read by few

    return load_people(path)


def _mine(people: People, name: str) -> Mine:
    person = people.named(name)
    names = {person_of(name), *further_names(people, name)}
    return Mine(names=names, roles=frozenset() if person is None else person.roles)


def _others(people: People, name: str, own: Mine, delegations: tuple[KnownDelegation, ...]) -> Iterator[Mine]:
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
