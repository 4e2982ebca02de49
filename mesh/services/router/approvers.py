"""The approvers' file of a running router: its changes, and the roles that routes ask for in vain.

Owns what is logged of both. `mesh.codec.approvers_file` reads the file, the wiring of routers calls
this.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from mesh.codec.approvers_file import load_approvers
from mesh.core.route import ApprovalWork, Route, roles_of
from mesh.errors import OperatorError

_log = structlog.get_logger()
_FOLLOW_EVERY_S: Final = 1.0

Roles = Mapping[str, frozenset[str]]


def held_roles(roles: Roles) -> frozenset[str]:
    """The roles that somebody has."""
    return frozenset[str]().union(*roles.values())


class ApproversWatch:
    """Follows the file while the router runs.

    `routes` gives the active routes. `set_roles` takes people's roles whenever they change.
    """

    def __init__(
        self,
        path: Path,
        roles: Roles,
        *,
        routes: Callable[[], Sequence[Route]],
        set_roles: Callable[[dict[str, frozenset[str]]], None],
    ) -> None:
        self._path = path
        self._roles = roles
        self._routes = routes
        self._set_roles = set_roles
        self._seen = _stamp(path)
        self._told: set[tuple[str, str, str]] = set()

    async def follow(self) -> None:
        """Look at the file and at the active routes at intervals, until it is cancelled."""
        while True:
            await asyncio.sleep(_FOLLOW_EVERY_S)
            self.look()

    def look(self) -> None:
        """Apply a change of the file. A file that is invalid changes nothing."""
        stamp = _stamp(self._path)
        if stamp != self._seen:
            # also if it can't be read: the same mistake is logged once, not each second
            self._seen = stamp
            self._take(is_there=stamp is not None)
        self.warn_of_roles(self._routes())

    def warn_of_roles(self, routes: Sequence[Route]) -> None:
        """Warn of each approval whose role nobody has, once until the roles change."""
        held = held_roles(self._roles)
        for route in routes:
            for name, step in route.steps.items():
                for role in roles_of(step.work) if isinstance(step.work, ApprovalWork) else ():
                    if role not in held:
                        self._warn(route.name, name, role)

    def _warn(self, route: str, step: str, role: str) -> None:
        asked = (route, step, role)
        if asked not in self._told:
            self._told.add(asked)
            _log.warning(
                "nobody_has_the_role",
                role=role,
                route=route,
                step=step,
                effect="every answer to this approval is refused",
                next=f"give the role to somebody in {self._path}; it is read again when it changes",
            )

    def _take(self, *, is_there: bool) -> None:
        try:
            roles = load_approvers(self._path) if is_there else {}
        except OperatorError as error:
            _log.error(
                "approvers_unreadable", file=str(self._path), error=str(error), effect="the roles stay as they were"
            )
            return
        self._warn_of_loss(roles, is_there=is_there)
        self._roles, self._told = roles, set()
        self._set_roles(dict(roles))
        _log.info("approvers_changed", file=str(self._path), people=len(roles))

    def _warn_of_loss(self, roles: Roles, *, is_there: bool) -> None:
        """Warn of what the change takes from people, and of roles that nobody has any more."""
        taken = {person: sorted(had - roles.get(person, frozenset())) for person, had in sorted(self._roles.items())}
        lost = {person: names for person, names in taken.items() if names}
        empty = sorted(held_roles(self._roles) - held_roles(roles))
        # a file that is gone is always worth a warning, even if nobody had a role
        if is_there and not lost:
            return
        _log.warning(
            "roles_taken_away" if is_there else "approvers_file_is_gone",
            file=str(self._path),
            taken=lost,
            roles_that_nobody_has=empty,
            effect="answers that need these roles are refused from now on",
            next="put the file back" if not is_there else "nothing, if that was meant",
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # an editor that writes a new file in its place may leave the time and the size as they were
    return found.st_mtime_ns, found.st_size, found.st_ino
