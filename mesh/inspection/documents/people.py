"""Who asks."""

import msgspec

from mesh.inspection.inbox import Own


class Giver(msgspec.Struct, frozen=True, kw_only=True):
    """A person for whom somebody may answer, and what.

    `routes`: those that the delegation covers; empty: all. `by_roles`: it covers these roles alone.
    """

    person: str
    names: tuple[str, ...]
    roles: tuple[str, ...]
    routes: tuple[str, ...]
    by_roles: bool


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `sees_all`: they see all workflows, incidents and agents.

    `names`: all that the mesh knows them by.
    """

    name: str
    names: tuple[str, ...]
    roles: tuple[str, ...]
    sees_all: bool
    answers_for: tuple[Giver, ...]


def me_document(name: str, roles: frozenset[str], own: Own, *, sees_all: bool) -> Me:
    return Me(
        name=name,
        names=tuple(sorted(own.mine.names)),
        roles=tuple(sorted(roles)),
        sees_all=sees_all,
        answers_for=tuple(
            Giver(
                person=one.giver,
                names=tuple(sorted(one.names)),
                roles=tuple(sorted(one.roles)),
                routes=tuple(one.routes),
                by_roles=one.by_roles,
            )
            for one in own.others
        ),
    )
