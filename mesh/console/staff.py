"""Who somebody is, and what they may see and do.

Owns the roles of the console: three names are reserved in the people of the mesh. Who may answer
what, the routers decide; this only says what to show.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import orjson
import structlog
from msgspec.structs import replace

from mesh.codec.signing_keys import SigningKey, load_key, make_key
from mesh.console.config import DevLogin
from mesh.core.people import People, person_of
from mesh.core.topics import Topics
from mesh.errors import MeshError, TopicMissing
from mesh.inspection.inbox import Filters, Own, own_among
from mesh.ports import Broker, Clock
from mesh.services.people import PeopleReader

_log = structlog.get_logger()

VIEWER: Final = "mesh.viewer"
OPERATOR: Final = "mesh.operator"
AUTHOR: Final = "mesh.author"
OF_CONSOLE: Final = frozenset({VIEWER, OPERATOR, AUTHOR})


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is signed in, as of now."""

    name: str
    roles: frozenset[str]
    own: Own

    @property
    def sees_all(self) -> bool:
        """Whether they may see all workflows, incidents and agents."""
        return not OF_CONSOLE.isdisjoint(self.roles)

    @property
    def filters(self) -> Filters:
        """What waits for them: to be answered, or to tell those who asked back."""
        return Filters(mine=replace(self.own.mine, is_asked=True), others=self.own.others)

    def is_one_of(self, names: Iterable[str]) -> bool:
        """Whether one of these names is theirs."""
        return not {person_of(name) for name in names}.isdisjoint(self.own.mine.names)


class Staff:
    """The people of the mesh, as of the last `refresh`."""

    def __init__(self, broker: Broker, topics: Topics, clock: Clock, *, login: DevLogin, approvers: Path) -> None:
        self._reader = PeopleReader(broker, topics)
        self._has_started = False
        self._clock = clock
        self._login = login
        self._approvers = approvers
        self._of_file: tuple[float, People] = (0.0, People())
        self._key: SigningKey | None = None

    async def refresh(self) -> None:
        """Read what has been written since. A mesh may have no such topic."""
        with suppress(TopicMissing):
            if self._has_started:
                await self._reader.refresh()
            else:
                await self._reader.start()
                self._has_started = True

    async def close(self) -> None:
        await self._reader.close()

    def reader(self, name: str) -> Reader:
        """The person with this name, and what they may see and do."""
        now_ms = self._clock.now_ms()
        people = self._people(now_ms)
        own = own_among(people, name, self._reader.delegations.in_force(now_ms))
        more = self._login.roles if person_of(name) == person_of(self._login.name) else frozenset[str]()
        return Reader(name=name, roles=frozenset(own.mine.roles) | more, own=own)

    def _people(self, now_ms: int) -> People:
        """The people on the topic; where none were ever activated, those of the file."""
        found = self._reader.people_at(now_ms)
        if found is not None:
            return found
        try:
            changed = self._approvers.stat().st_mtime
        except OSError:
            return People()
        if changed != self._of_file[0]:
            from mesh.codec.approvers_file import load_people  # noqa: PLC0415 - few meshes have a file

            try:
                self._of_file = (changed, load_people(self._approvers))
            except MeshError as error:
                _log.warning("console_approvers_unreadable", file=str(self._approvers), error=str(error))
                self._of_file = (changed, self._of_file[1])
        return self._of_file[1]

    # The console's key ----------------------------------------------------------------------------

    def load_key(self, path: Path) -> SigningKey:
        """The console's own key, made at its first start, with its public half beside it."""
        self._key = load_key(path) if path.exists() else make_key(path, None)
        path.with_suffix(".jwk").write_bytes(orjson.dumps(self._key.public_jwk))
        return self._key

    @property
    def key(self) -> SigningKey | None:
        """The key that signs answers, if the mesh lets it speak for people; else None."""
        known = None if self._key is None else self._reader.keys.get(self._key.kid)
        now_ms = self._clock.now_ms()
        if known is None or known.key.speaks_for is None or known.from_ms > now_ms:
            return None
        return None if known.until_ms is not None and known.until_ms <= now_ms else self._key
