"""People whose roles change while answers arrive.

Owns the versions of the people that a run plays, and how one becomes active. `operators` changes
them.
"""

from collections.abc import Mapping
from typing import Final

from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.people import People, Person, people_of
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.routes import ROLES


def _version(more: Mapping[str, frozenset[str]]) -> People:
    """All people, some with other roles. `cem` answers under several names."""
    roles = {**ROLES, **more}
    return people_of(
        Person(id=name, names=("slack:C",) if name == "cem" else (), roles=held) for name, held in roles.items()
    )


_NONE: Final = frozenset[str]()
_MAINTAINER: Final = frozenset({"maintainer"})
ALL: Final = _version({})
# in each version enough people are left for every quorum
VERSIONS: Final = (
    ALL,
    _version({"ana": _NONE, "eve": _MAINTAINER}),
    _version({"ben": _MAINTAINER}),
    _version({"ben": _NONE, "eve": _MAINTAINER}),
    _version({"cem": _MAINTAINER, "eve": _MAINTAINER}),
)


def activate(ground: Ground, people: People) -> None:
    """Store a version and make it active, as `mesh people apply` does."""
    active = encode_people_activation(
        digest_of(people),
        topics=ground.topics,
        activation_id=ground.fresh("people"),
        by="ops",
        at_ms=ground.clock.now_ms(),
    )
    ground.note("operator", f"applies people {digest_of(people)[:15]}")
    ground.send(encode_people(people, ground.topics), active)
