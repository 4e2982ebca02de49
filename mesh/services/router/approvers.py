"""The approvers' file of a running router: its changes, and the roles that routes ask for in vain.

Once the people's topic rules, the file is not read any more, and only what routes ask for is looked
at. Owns what is logged of all that. `mesh.codec.approvers_file` reads the file, the wiring of
routers calls this.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from mesh.codec.approvers_file import load_approvers, load_people
from mesh.core.people import People
from mesh.core.route import Route, approvals_of, roles_of
from mesh.errors import OperatorError

_log = structlog.get_logger()
_FOLLOW_EVERY_S: Final = 1.0

Roles = Mapping[str, frozenset[str]]


class Rule(NamedTuple):
    """Who has which role. `source`: the file or the topic that says so.

    `people`: with their further names; None: there are none. `version`: of the topic; empty: the
    file rules.
    """

    roles: Roles
    source: str
    people: People | None = None
    version: str = ""


def rule_of_file(path: Path) -> Rule:
    """What the file says. Raises `SettingsInvalid`."""
    people = load_people(path)
    # without further names, names are compared as they always were
    if people.has_further_names:
        return Rule(people.roles, str(path), people)
    return Rule(load_approvers(path), str(path))


def held_roles(roles: Roles) -> frozenset[str]:
    """The roles that somebody has."""
    return frozenset[str]().union(*roles.values())


def rule_at_start(path: Path, topic: str, people: People | None) -> Rule:
    """What rules when a router starts: the topic's `people`, or the file if there are none.

    Raises `SettingsInvalid` if the file rules and is invalid.
    """
    if people is not None:
        _log.info("people_in_effect", topic=topic, version=people.digest, people=len(people.persons))
        if path.exists():
            _log_not_read(path, topic)
        return Rule(people.roles, topic, people, people.digest)
    rule = rule_of_file(path) if path.exists() else Rule({}, str(path))
    if rule.roles:
        _log.info("approvers_read", file=str(path), people=len(rule.roles))
    else:
        _log.warning("no_approvers", file=str(path), effect="every answer to an approval is refused")
    return rule


def _log_not_read(path: Path, topic: str) -> None:
    _log.warning(
        "approvers_file_not_read",
        file=str(path),
        rules=topic,
        next=f"nothing, if that was meant; to apply the file: mesh people apply {path}",
    )


class ApproversWatch:
    """Follows the file, and the topic's people, while the router runs.

    `routes` gives the active routes, `people` those that the topic has in effect (None: the file
    rules). `tell` takes who has which role whenever that changes.
    """

    def __init__(
        self,
        path: Path,
        rule: Rule,
        *,
        topic: str,
        routes: Callable[[], Sequence[Route]],
        people: Callable[[], People | None],
        tell: Callable[[Rule], None],
    ) -> None:
        self._path = path
        self._rule = rule
        self._topic = topic
        self._routes = routes
        self._people = people
        self._tell = tell
        self._seen = _stamp(path)
        self._told: set[tuple[str, str, str]] = set()

    async def follow(self) -> None:
        """Look at the file and at the active routes at intervals, until it is cancelled."""
        while True:
            await asyncio.sleep(_FOLLOW_EVERY_S)
            self.look()

    def look(self) -> None:
        """Apply a change of the file or of the topic. A file that is invalid changes nothing."""
        people, stamp = self._people(), _stamp(self._path)
        # also if it can't be read: the same mistake is logged once, not each second
        is_changed, self._seen = stamp != self._seen, stamp
        if people is not None:
            self._follow_topic(people, is_changed=is_changed and stamp is not None)
        # of a router that reads the topic just now
        elif self._rule.version:
            return
        elif is_changed:
            self._take(is_there=stamp is not None)
        self.warn_of_roles(self._routes())

    def _follow_topic(self, people: People, *, is_changed: bool) -> None:
        if self._rule.version != people.digest:
            # logged when the topic begins to rule, and not for each version
            is_changed = is_changed or (not self._rule.version and self._seen is not None)
            self._told = set()
            self._rule = Rule(people.roles, self._topic, people, people.digest)
            self._tell(self._rule)
            _log.info("people_in_effect", topic=self._topic, version=people.digest, people=len(people.persons))
        if is_changed:
            _log_not_read(self._path, self._topic)

    def warn_of_roles(self, routes: Sequence[Route]) -> None:
        """Warn of each approval whose role nobody has, once until the roles change."""
        held = held_roles(self._rule.roles)
        for route in routes:
            for name, work in approvals_of(route):
                for role in roles_of(work):
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
                next=f"give the role to somebody: mesh people apply FILE, which {self._topic} then has"
                if self._rule.version
                else f"give the role to somebody in {self._path}; it is read again when it changes",
            )

    def _take(self, *, is_there: bool) -> None:
        try:
            rule = rule_of_file(self._path) if is_there else Rule({}, str(self._path))
        except OperatorError as error:
            _log.error(
                "approvers_unreadable", file=str(self._path), error=str(error), effect="the roles stay as they were"
            )
            return
        self._warn_of_loss(rule.roles, is_there=is_there)
        self._rule, self._told = rule, set()
        self._tell(rule)
        _log.info("approvers_changed", file=str(self._path), people=len(rule.roles))

    def _warn_of_loss(self, roles: Roles, *, is_there: bool) -> None:
        """Warn of what the change takes from people, and of roles that nobody has any more."""
        taken = {
            person: sorted(had - roles.get(person, frozenset())) for person, had in sorted(self._rule.roles.items())
        }
        lost = {person: names for person, names in taken.items() if names}
        empty = sorted(held_roles(self._rule.roles) - held_roles(roles))
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
