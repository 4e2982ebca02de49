"""What a new version of the people would change: for each person, and for the routes that run.

Owns the comparison; it reads and writes nothing. `mesh people plan` and `mesh people apply` show
it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from mesh.core.people import People, Person, person_of


class PersonChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one person gains or loses. Persons of whom nothing changes have none."""

    person: str
    change: Literal["new", "changed", "gone"]
    roles_given: tuple[str, ...] = ()
    roles_taken: tuple[str, ...] = ()
    names_given: tuple[str, ...] = ()
    names_taken: tuple[str, ...] = ()


class RoleAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A role that an active route asks for, and a step that does."""

    role: str
    route: str
    step: str


class PeoplePlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that would change.

    `emptied`: roles that nobody has any more. `unheld`: roles that active routes ask for and nobody
    would have. `lost`: those that are both; it takes `--force`. `refused`: why it can't be applied.
    """

    changes: tuple[PersonChange, ...]
    emptied: tuple[str, ...] = ()
    unheld: tuple[RoleAsked, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[RoleAsked, ...]:
        return tuple(asked for asked in self.unheld if asked.role in self.emptied)


def people_plan(
    before: People,
    after: People,
    *,
    held: Iterable[str],
    asked: Mapping[str, tuple[str, str]],
    earlier: Iterable[People],
) -> PeoplePlan:
    """Compare two versions.

    `held`: roles that somebody has now. `asked`: roles that active routes ask for, with route and
    step. `earlier`: all versions that were ever active.
    """
    holding = after.held_roles
    return PeoplePlan(
        changes=tuple(_changes(before, after)),
        emptied=tuple(sorted(set(held) - holding)),
        unheld=tuple(
            RoleAsked(role=role, route=route, step=step)
            for role, (route, step) in sorted(asked.items())
            if role not in holding
        ),
        refused=tuple(dict.fromkeys(_moved_ids(after, earlier))),
    )


def _changes(before: People, after: People) -> Iterator[PersonChange]:
    for id_ in sorted(before.persons.keys() | after.persons.keys()):
        old, new = before.persons.get(id_), after.persons.get(id_)
        was, is_ = old or Person(id=id_), new or Person(id=id_)
        if (old is None) == (new is None) and was.roles == is_.roles and set(was.names) == set(is_.names):
            continue
        yield PersonChange(
            person=id_,
            change="new" if old is None else "gone" if new is None else "changed",
            roles_given=tuple(sorted(is_.roles - was.roles)),
            roles_taken=tuple(sorted(was.roles - is_.roles)),
            names_given=tuple(sorted(set(is_.names) - set(was.names))),
            names_taken=tuple(sorted(set(was.names) - set(is_.names))),
        )


def _moved_ids(after: People, earlier: Iterable[People]) -> Iterator[str]:
    """Ids of earlier versions that would be further names.

    Votes are counted by ids, so a person with a new one could vote a second time.
    """
    for people in earlier:
        for id_ in people.persons:
            now = after.named(id_)
            if now is not None and person_of(now.id) != person_of(id_):
                yield (
                    f"{id_} is a person's id, and ids are permanent: keep {id_} as the id, and give {now.id} as a"
                    " further name of it"
                )
