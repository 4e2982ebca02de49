"""`approvers.yaml`: which people have which role, and under which names they are known.

    maintainer: [ana@example.org, ben@example.org]
    release-manager: ana@example.org
    people:
      ana@example.org: {names: ["slack:U1"], roles: [finance]}

Owns the file's shape. Roles are free words that routes name. People are what an answer says in
`by`: a person's id, or a further name of theirs. `people` as a mapping is the long form; as a list
it is a role like any other. `decide` says whether somebody may answer. The wiring of routers and
`mesh people apply` call it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from mesh.codec.yaml_lines import YamlDocument, read_yaml
from mesh.core.json_values import kind_of
from mesh.core.people import People, Person, people_of, person_of, shared_names
from mesh.errors import SettingsInvalid

_EXAMPLE = "maintainer: [ana@example.org]"
_LONG_EXAMPLE = 'ana@example.org: {names: ["slack:U1"], roles: [maintainer]}'
_PEOPLE: Final = "people"
_KEYS: Final = ("names", "roles")


def load_approvers(path: Path) -> dict[str, frozenset[str]]:
    """Each person's roles, by the person's id.

    Raises `SettingsInvalid`, with one line `file:line: what is wrong (how to fix it)` for every
    problem.
    """
    found = _load(path)
    # without the long form two ways to write a name stay two people, as they always were
    return found.people().roles if found.persons else {name: frozenset(held) for name, held in found.roles.items()}


def load_people(path: Path) -> People:
    """The people with their further names and roles. Raises `SettingsInvalid`, as above."""
    return _load(path).people()


class _File:
    """What was read of one file, and what is wrong with it (`troubles`: line and message)."""

    def __init__(self) -> None:
        self.roles: dict[str, set[str]] = {}  # of the short form, by name
        self.persons: dict[str, Person] = {}  # of the long form
        self.troubles: list[tuple[int, str]] = []

    def people(self) -> People:
        """All people.

        A name in a role's list is one of somebody in the long form, or a new person's.
        """
        persons = dict(self.persons)
        ids = dict(people_of(persons.values()).ids)
        for name, roles in self.roles.items():
            id_ = ids.setdefault(person_of(name), name)
            known = persons.get(id_, Person(id=id_))
            persons[id_] = replace(known, roles=known.roles | roles)
        return people_of(persons.values())


def _load(path: Path) -> _File:
    try:
        documents, faults = read_yaml(path)
    except OSError as error:
        raise SettingsInvalid(f"{path}: the file can't be read: {error.strerror} (is the path right?)") from error
    found = _File()
    found.troubles += [(fault.line, fault.message) for fault in faults]
    if len(documents) > 1:
        found.troubles.append((documents[1].line, "the file has more than one document (take out ---)"))
    for document in documents[:1]:
        found.troubles += [(fault.line, fault.message) for fault in document.faults]
        _read(document, found)
    if found.troubles:
        raise SettingsInvalid("\n".join(f"{path}:{line}: {what}" for line, what in sorted(found.troubles)))
    return found


def _read(document: YamlDocument, found: _File) -> None:
    if document.value is None and not document.faults:
        return  # nobody has a role: every answer is refused, and says so
    if not isinstance(document.value, dict):
        found.troubles.append(
            (document.line, f"the file must map roles to people, not be {kind_of(document.value)} ({_EXAMPLE})")
        )
        return
    for role, value in document.value.items():
        if role == _PEOPLE and isinstance(value, dict):
            _read_people(document, value, found)
        else:
            _read_role(document, role, value, found)


def _read_role(document: YamlDocument, role: str, value: Any, found: _File) -> None:
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list):
        line = document.line_of((role,))
        found.troubles.append(
            (line, f"the role {role} needs a list of people, not {kind_of(value)} ({role}: [ana@example.org])")
        )
        return
    for place, person in enumerate(named):
        if _is_name(person):
            found.roles.setdefault(person, set()).add(role)
        else:
            what = f"the role {role} names {_shown(person)} (write who answers, as in by)"
            found.troubles.append((document.line_of((role, place)), what))


def _read_people(document: YamlDocument, value: dict[str, Any], found: _File) -> None:
    """Read the long form: a mapping of ids to names and roles."""
    for id_, entry in value.items():
        at = (_PEOPLE, id_)
        problem = _problem_of(id_, entry)
        if problem:
            found.troubles.append((document.line_of(at), problem))
            continue
        person = Person(id=id_, names=_listed(entry, "names"), roles=frozenset(_listed(entry, "roles")))
        found.persons[id_] = person
    for shared in shared_names(found.persons.values()):
        what = f"{shared.one} and {shared.other} share the name {shared.name} (a name is one person's)"
        found.troubles.append((document.line_of((_PEOPLE, shared.other)), what))


def _problem_of(id_: str, entry: Any) -> str:
    """What is wrong with one person of the long form; empty if nothing is."""
    if not _is_name(id_):
        return f"a person's id is {_shown(id_)} (write who answers, as in by)"
    if not isinstance(entry, dict):
        return f"{id_} needs names and roles, not {kind_of(entry)} ({_LONG_EXAMPLE})"
    return next(_problems(id_, entry), "")


def _problems(id_: str, entry: dict[str, Any]) -> Iterator[str]:
    for key, listed in entry.items():
        if key not in _KEYS:
            yield f"{id_} has the key {key}; there are {' and '.join(_KEYS)} ({_LONG_EXAMPLE})"
        elif not (_is_name(listed) or (isinstance(listed, list) and all(map(_is_name, listed)))):
            yield f"the {key} of {id_} must be a list of words ({_LONG_EXAMPLE})"


def _listed(entry: dict[str, Any], key: str) -> tuple[str, ...]:
    found = entry.get(key, [])
    return (found,) if isinstance(found, str) else tuple(dict.fromkeys(found))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() == value and value != ""


def _shown(value: Any) -> str:
    return kind_of(value) if value != "" else "nobody"
