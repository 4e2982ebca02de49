"""`approvers.yaml`: which people have which role.

    maintainer: [ana@example.org, ben@example.org]
    release-manager: ana@example.org

Owns the file's shape. Roles are free words that routes name. People are what an answer says in
`by`. `decide` says whether somebody may answer. The wiring of routers calls `load_approvers`.
"""

from pathlib import Path

from mesh.codec.yaml_lines import YamlDocument, read_yaml
from mesh.core.json_values import kind_of
from mesh.errors import SettingsInvalid

_EXAMPLE = "maintainer: [ana@example.org]"


def load_approvers(path: Path) -> dict[str, frozenset[str]]:
    """Each person's roles.

    Raises `SettingsInvalid`, with one line `file:line: what is wrong (how to fix it)` for every
    problem.
    """
    try:
        documents, faults = read_yaml(path)
    except OSError as error:
        raise SettingsInvalid(f"{path}: the file can't be read: {error.strerror} (is the path right?)") from error
    troubles = [(fault.line, fault.message) for fault in faults]
    if len(documents) > 1:
        troubles.append((documents[1].line, "the file has more than one document (take out ---)"))
    people: dict[str, set[str]] = {}
    for document in documents[:1]:
        troubles += [(fault.line, fault.message) for fault in document.faults]
        _read(document, people, troubles)
    if troubles:
        raise SettingsInvalid("\n".join(f"{path}:{line}: {what}" for line, what in sorted(troubles)))
    return {person: frozenset(roles) for person, roles in people.items()}


def _read(document: YamlDocument, people: dict[str, set[str]], troubles: list[tuple[int, str]]) -> None:
    if document.value is None and not document.faults:
        return  # nobody has a role: every answer is refused, and says so
    if not isinstance(document.value, dict):
        troubles.append(
            (document.line, f"the file must map roles to people, not be {kind_of(document.value)} ({_EXAMPLE})")
        )
        return
    for role, value in document.value.items():
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, list):
            line = document.line_of((role,))
            troubles.append(
                (line, f"the role {role} needs a list of people, not {kind_of(value)} ({role}: [ana@example.org])")
            )
            continue
        for place, person in enumerate(named):
            if isinstance(person, str) and person.strip() == person and person:
                people.setdefault(person, set()).add(role)
            else:
                what = f"the role {role} names {kind_of(person) if person != '' else 'nobody'} (write who answers, as in by)"
                troubles.append((document.line_of((role, place)), what))
