"""People: when two names are the same person, and who has which role.

Owns what makes people distinct. A person has one id, which is permanent, and may have further names
(`slack:U1`). Names are compared after NFKC and case folding, so a person stays one however they
write a name. Only this module looks up the roles of `mesh.core.state.Directory` by person.
`mesh.core.people_versions` says which people are in effect when.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """`id`: what events call the person. `names`: all others that an answer or a route may use."""

    id: str
    names: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()


class People(msgspec.Struct, frozen=True, kw_only=True):
    """All people at one time, by their ids. Made by `people_of`.

    `digest`: of the version that says so. `ids`: by each name, as `person_of` has it.
    """

    persons: dict[str, Person] = {}
    ids: dict[str, str] = {}
    digest: str = ""

    @property
    def roles(self) -> dict[str, frozenset[str]]:
        """Each person's roles, by id."""
        return {person.id: person.roles for person in self.persons.values()}

    @property
    def has_further_names(self) -> bool:
        return any(person.names for person in self.persons.values())

    @property
    def held_roles(self) -> frozenset[str]:
        """The roles that somebody has."""
        return frozenset[str]().union(*(person.roles for person in self.persons.values()))

    def named(self, name: str) -> Person | None:
        """The person whom somebody means by this name; None: nobody has it."""
        return self.persons.get(self.ids.get(person_of(name), ""))


class SharedName(NamedTuple):
    """A name that two people have. `one`, `other`: their ids."""

    name: str
    one: str
    other: str


def person_of(name: str) -> str:
    """The name in the form in which names are compared."""
    # ASCII has nothing to normalise, and most names are ASCII
    if name.isascii():
        return name.strip().lower()
    # twice, because case folding may give what NFKC would change again
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def people_of(persons: Iterable[Person], *, digest: str = "") -> People:
    """The people. Where two share a name (`shared_names`), it is the later one's."""
    by_id = {person.id: person for person in persons}
    ids = {person_of(name): person.id for person in by_id.values() for name in (*person.names, person.id)}
    return People(persons=by_id, ids=ids, digest=digest)


def shared_names(persons: Iterable[Person]) -> Iterator[SharedName]:
    """Each name that a person has though an earlier one has it."""
    owners: dict[str, str] = {}
    for person in persons:
        for name in (person.id, *person.names):
            owner = owners.setdefault(person_of(name), person.id)
            if owner != person.id:
                yield SharedName(name, owner, person.id)


def id_of(people: People | None, name: str) -> str:
    """The id of the person with this name; the name itself if nobody has it."""
    person = people.named(name) if people is not None else None
    return name if person is None else person.id


def further_names(people: People | None, name: str) -> frozenset[str]:
    """All names of the person with this name, as `person_of` has them, but for the name itself."""
    person = people.named(name) if people is not None else None
    if person is None:
        return frozenset()
    return frozenset(map(person_of, (person.id, *person.names))) - {person_of(name)}


def roles_of(roles: Mapping[str, frozenset[str]], name: str) -> frozenset[str]:
    """All roles of the person that this name is of."""
    wanted = person_of(name)
    return frozenset[str]().union(*(held for other, held in roles.items() if person_of(other) == wanted))


def people_by_roles(roles: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Each person's roles, by `person_of`."""
    found: dict[str, frozenset[str]] = {}
    for name, held in roles.items():
        person = person_of(name)
        found[person] = found.get(person, frozenset()) | held
    return found
