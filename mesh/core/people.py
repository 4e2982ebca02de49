"""People: when two names are the same person, and who has which role.

Owns what makes people distinct. A person is what an answer says in `by`, compared after NFKC and
case folding, so a person stays one however they write their name. Only this module looks up the
roles of `mesh.core.state.Directory` by person.
"""

import unicodedata
from collections.abc import Mapping


def person_of(name: str) -> str:
    """The name in the form in which names are compared."""
    # ASCII has nothing to normalise, and most names are ASCII
    if name.isascii():
        return name.strip().lower()
    # twice, because case folding may give what NFKC would change again
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


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
