"""Who somebody is, and what they may see and do.

Owns the roles of the console: three names are reserved in the people of the mesh. Who may answer
what, the routers decide; this only says what to show.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import orjson
import structlog
from msgspec.structs import replace

from mesh.codec.links import Pass
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
Method = Literal["account", "link"]
"""How the console knows whose answer it is: by a session or a token, or by a link alone."""


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is signed in, as of now.

    `by_link`: the link that they came by, without a session. It opens one approval, and none of the
    console's roles counts then.
    """

    name: str
    roles: frozenset[str]
    own: Own
    by_link: Pass | None = None

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
        self._keys: dict[Method, SigningKey] = {}

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

    def is_same(self, one: str, other: str) -> bool:
        """Whether both are names of one person."""
        return self.reader(one).is_one_of([other]) or person_of(one) == person_of(other)

    def guest(self, by_link: Pass) -> Reader:
        """The person of a link, with the rights that they have now."""
        own = self.reader(by_link.person).own
        return Reader(name=by_link.person, roles=frozenset(own.mine.roles) - OF_CONSOLE, own=own, by_link=by_link)

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

    # The console's keys ---------------------------------------------------------------------------

    def load_key(self, path: Path, method: Method) -> SigningKey:
        """A key of the console's own, made at its first start, with its public half beside it.

        It signs answers of people whom it knows in this way.
        """
        key = self._keys[method] = load_key(path) if path.exists() else make_key(path, None)
        path.with_suffix(".jwk").write_bytes(orjson.dumps(key.public_jwk))
        return key

    @property
    def key(self) -> "SpeakingKey | None":
        """The key that signs answers, if the mesh lets it speak for people; else None."""
        return self._speaking("account")

    @property
    def link_key(self) -> "SpeakingKey | None":
        """The same for answers by a link: what they may decide is said apart from the others."""
        return self._speaking("link")

    def _speaking(self, method: Method) -> "SpeakingKey | None":
        key = self._keys.get(method)
        known = None if key is None else self._reader.keys.get(key.kid)
        if key is None or known is None or known.key.speaks_for is None or not known.is_valid(self._clock.now_ms()):
            return None
        return SpeakingKey(key, known.key.person, method)


class SpeakingKey(NamedTuple):
    """A gateway's key, which says in what it signs who it is and how it knows the person."""

    key: SigningKey
    signer: str
    method: Method

    def sign(self, body: dict[str, Any]) -> str:
        return self.key.sign({**body, "via": {"signer": self.signer, "method": self.method}})
