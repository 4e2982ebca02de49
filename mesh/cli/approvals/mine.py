"""What `--mine` means: who a person is, which roles they have, and for whom they may answer.

Owns what is looked up for it; `mesh.inspection.inbox.own` says what follows.
"""

from mesh.cli.session import Session
from mesh.core.people import People, id_of, person_of
from mesh.errors import BrokerUnavailable, OperatorError, TopicMissing
from mesh.inspection.inbox import Mine, Own, own_among
from mesh.ports import Broker
from mesh.services.people import PeopleReader


def only_for(own: Own, giver: str, people: People | None) -> Mine:
    """What the person may answer for this one. Raises `OperatorError` if nothing."""
    wanted = person_of(id_of(people, giver))
    found = [one for one in own.others if person_of(one.giver) == wanted]
    if not found:
        raise OperatorError(f"{giver} has delegated nothing to you: `mesh delegations` shows who has")
    return found[0]


async def own_of(session: Session, broker: Broker, name: str) -> tuple[Own, People | None]:
    """What `--mine` is about, and the people that say so."""
    if session.api is not None:
        return await session.api.own(), None
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
    return own_among(people, name, delegations), people


def _of_file(session: Session) -> People:
    path = session.settings.approvers
    if not path.exists():
        raise OperatorError(
            f"--mine needs to know your roles, and there is no {path}:"
            " name the file in MESH_APPROVERS, or use --role ROLE"
        )
    from mesh.codec.approvers_file import load_people  # noqa: PLC0415 - slow to load, and read by few

    return load_people(path)
