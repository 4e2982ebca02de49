"""What every page needs: the caches, who reads, and how a template becomes an answer.

Owns how pages are put together. A page's own module says what is on it.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

import apsw
import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from mesh.codec.approvals import Receipt
from mesh.codec.links import Pass
from mesh.codec.operations import Ordered, Stopped, encode_operation
from mesh.codec.redrive import By
from mesh.codec.times import rfc3339
from mesh.console import words
from mesh.console.assets import Assets
from mesh.console.config import ANSWERS_A_MINUTE, ConsoleConfig
from mesh.console.hub import Hub
from mesh.console.parameters import query_of
from mesh.console.previews import Previews
from mesh.console.projector import Projector
from mesh.console.sessions import COOKIE, LINK_COOKIE, SECURE_COOKIE, SECURE_LINK_COOKIE, Sessions
from mesh.console.staff import Reader, Staff
from mesh.console.tokens import Tokens
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import MeshError, NotFound
from mesh.inspection.event_status import EventFate, fate_of
from mesh.inspection.inbox import count_of
from mesh.inspection.notices import count_undelivered
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import EventRow
from mesh.inspection.redriving import Redriving
from mesh.inspection.route_versions import Stored
from mesh.inspection.wording.plain import ago, clock_time, counted, duration, printable
from mesh.ports import Broker, Clock
from mesh.services.client import Client
from mesh.services.operations import Operation, order, send
from mesh.services.receipts import receipt_of

_log = structlog.get_logger()

T = TypeVar("T")
THEMES: Final = ("system", "light", "dark")
FATES: Final = 20  # records of one event id, on a page
SHOWN_S: Final = 2.0  # how long an answer is waited for in the caches
_MINUTE_MS: Final = 60_000


class Forbidden(Exception):
    """The person may not see or do this. The message says who may."""


class Counts(NamedTuple):
    """What the navigation counts."""

    approvals: int = 0
    incidents: int = 0
    letters: int = 0


class Desk:
    """The console's parts, for its pages."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        config: ConsoleConfig,
        *,
        clock: Clock,
        client: Client,
        hub: Hub,
        staff: Staff,
        projector: Projector,
        sessions: Sessions,
        tokens: Tokens,
    ) -> None:
        self.config, self.clock, self.client = config, clock, client
        self.hub, self.staff, self.projector, self.sessions = hub, staff, projector, sessions
        self.tokens = tokens
        self.assets, self._environment = _of_the_package()
        self._broker, self._topics = broker, topics
        self._answered: dict[str, deque[int]] = {}
        self.previews = Previews()

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this console by TLS alone."""
        return self.config.oidc is not None and self.config.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the cookie of a session."""
        return SECURE_COOKIE if self.is_secure else COOKIE

    @property
    def link_cookie(self) -> str:
        """The name of the cookie that has a link's token."""
        return SECURE_LINK_COOKIE if self.is_secure else LINK_COOKIE

    def now_ms(self) -> int:
        return self.clock.now_ms()

    # Who asks -------------------------------------------------------------------------------------

    def reader_of(self, request: Request) -> Reader | None:
        """Who has a session, or else who came by a link; None: nobody known."""
        person = self.sessions.person(request.cookies.get(self.cookie, ""))
        if person is not None:
            return self.staff.reader(person)
        ref, _, token = request.cookies.get(self.link_cookie, "").partition(".")
        found = self.read_link(ref, token)
        return None if found is None or found.ends_at_ms <= self.now_ms() else self.staff.guest(found)

    def read_link(self, ref: str, token: str) -> Pass | None:
        """What a link says; None: it does not count here. It may have ended."""
        return None if self.config.links is None else self.config.links.read(ref, token)

    # The caches -----------------------------------------------------------------------------------

    async def log(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask the read model."""
        return await self.projector.model.ask(question)

    async def open(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask the inbox."""
        return await self.projector.inbox.ask(question)

    async def wait_shown(self, question: Callable[[apsw.Connection], T | None]) -> T | None:
        """Wait until the read model shows it. None: it takes longer than a page may."""
        try:
            async with asyncio.timeout(SHOWN_S):
                while True:
                    # before the question, or what comes meanwhile would be missed
                    news = self.projector.news
                    if (found := await self.log(question)) is not None:
                        return found
                    await news.wait()
        except TimeoutError:
            return None

    async def route(self, digest: str) -> Route | None:
        """The rules of this version; None: they are not stored, or can't be read here."""
        return await self.projector.route(digest)

    async def fates(self, event_id: str, *, after: str | None) -> tuple[Page[EventRow], list[EventFate]]:
        """The records with this event id, and what became of each."""
        async with ReadModel(self._broker, self._topics, self.config.model) as model:
            rows = queries.events_by_id(model.db, event_id, limit=FATES, after=after)
            return rows, [await fate_of(self._broker, self._topics, model, row) for row in rows]

    async def stored(self) -> Stored:
        """All stored versions of routes, as of now."""
        await self.projector.read_definitions()
        return self.projector.routes

    async def undelivered(self, since_ms: int) -> int:
        """How many notices to people have failed since then."""
        return await count_undelivered(self._broker, self._topics, since_ms)

    async def receipt_of(self, answer_id: str, approval_id: str, *, since_ms: int) -> Receipt | None:
        """The receipt of an answer that was decided on before; None: it is no longer there."""
        return await receipt_of(self._broker, self._topics, answer_id, approval_id, since_ms=since_ms)

    # What operators order -------------------------------------------------------------------------

    async def order(self, ordered: Ordered, workflow_ids: Sequence[str]) -> None:
        """Order it of these workflows. Raises `MeshError` if the broker has not taken it."""
        await order(self._broker, self._topics, ordered, workflow_ids)

    async def find_operation(self, operation_id: str) -> Operation | None:
        """The operation, also one that was ordered a moment ago."""
        if operation_id not in self.projector.operations:
            await self.projector.read_operations()
        return self.projector.operations.get(operation_id)

    async def stop_operation(self, operation_id: str, *, by: str, reason: str) -> None:
        stopped = Stopped(operation=operation_id, by=by, reason=reason, at_ms=self.now_ms())
        await send(self._broker, [encode_operation(stopped, topics=self._topics)])
        await self.projector.read_operations()

    @asynccontextmanager
    async def redriving(self, by: By, *, again: bool = False) -> AsyncIterator[Redriving]:
        """An operation on dead letters, with a read model of its own on the same file."""
        async with ReadModel(self._broker, self._topics, self.config.model) as model:
            await model.catch_up()
            yield Redriving(self._broker, model, self._topics, by, again=again, webhooks=self.config.webhooks)

    # How often ------------------------------------------------------------------------------------

    def may_answer_now(self, person: str) -> bool:
        """Count an answer of this person. False: they have sent too many in the last minute."""
        times, now_ms = self._answered.setdefault(person, deque()), self.now_ms()
        while times and times[0] <= now_ms - _MINUTE_MS:
            times.popleft()
        if len(times) >= ANSWERS_A_MINUTE:
            return False
        times.append(now_ms)
        return True

    # Pages ----------------------------------------------------------------------------------------

    async def page(
        self,
        request: Request,
        reader: Reader | None,
        template: str,
        /,
        *,
        status: int = 200,
        live: str = "",
        **values: Any,
    ) -> Response:
        """A page. `live`: the topics of updates at which the browser fetches it again."""
        counts = Counts() if reader is None or reader.by_link else await self._counts(reader)
        theme = request.cookies.get("theme", "")
        text = self._environment.get_template(template).render(
            reader=reader,
            counts=counts,
            live=live,
            mark=getattr(request.state, "mark", ""),
            now_ms=self.now_ms(),
            projector=self.projector,
            theme=theme if theme in THEMES else "system",
            themes=THEMES,
            here=request.url.path,
            target=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            **values,
        )
        return HTMLResponse(text, status)

    async def _counts(self, reader: Reader) -> Counts:
        approvals = await self.open(lambda db: count_of(db, reader.filters))
        if not reader.sees_all:
            return Counts(approvals)
        incidents, letters = await self.log(
            lambda db: (queries.workflows(db, status="incident", limit=1).total, queries.count_dead_letters(db))
        )
        return Counts(approvals, incidents, letters)

    async def problem(
        self,
        request: Request,
        reader: Reader | None,
        status: int,
        title: str,
        text: str,
        *,
        near: list[str] | None = None,
    ) -> Response:
        """A page that says what is wrong. The navigation stays."""
        return await self.page(request, reader, "problem.html", status=status, title=title, text=text, near=near or [])

    async def failed(self, request: Request, reader: Reader | None, error: Exception) -> Response:
        """The page for an error that a page has raised."""
        match error:
            case Forbidden():
                return await self.problem(request, reader, 403, "You may not see this", str(error))
            case NotFound():
                return await self.problem(request, reader, 404, "Not found", str(error))
            case MeshError():
                return await self.problem(request, reader, 400, "This can't be shown", str(error))
            case _:
                number = secrets.token_hex(4)
                _log.error("console_page_failed", id=number, path=request.url.path, exc_info=error)
                said = f"The console made an error. Its log has the details under the id {number}."
                try:
                    return await self.problem(request, reader, 500, "This page failed", said)
                except Exception:  # noqa: BLE001 - not even the navigation can be counted
                    return PlainTextResponse(f"{said}\n", 500)


@cache
def _of_the_package() -> tuple[Assets, Environment]:
    """The files that the console ships, read and compiled once in a process."""
    assets = Assets()
    environment = Environment(
        loader=PackageLoader("mesh.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "asset": assets.url,
        "link": link,
        "due": words.due,
        "fields": words.fields,
        "cut": words.cut,
        "counted": counted,
    }
    environment.filters |= {"iso": rfc3339, "ago": ago, "clock": clock_time, "duration": duration}
    return assets, environment


def _plain(value: Any) -> Any:
    """What a template shows. Hidden characters become codes, wherever a text comes from."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def link(path: str, **parameters: str) -> str:
    """A URL of this console."""
    values: Mapping[str, list[str]] = {name: [value] for name, value in parameters.items() if value}
    return path + query_of(values)
