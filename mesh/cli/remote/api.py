"""The console's API: one method for each question that commands ask.

Owns the requests and their errors. A console that does not answer is as a broker that does not.
"""

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec

from mesh.codec import exact_json
from mesh.codec.approvals import Receipt
from mesh.errors import BrokerUnavailable, MalformedRecord, MeshError, NotFound, OperatorError, SenderError
from mesh.inspection.documents.approvals import Answer, Approval, Sent
from mesh.inspection.documents.letters import Letter
from mesh.inspection.documents.meshes import MeshDocument
from mesh.inspection.documents.orders import (
    BulkOrder,
    Forked,
    ForkOrder,
    LettersDone,
    LettersOrder,
    Obeyed,
    OperationItem,
    Order,
    Preview,
    SentCommand,
    StopOrder,
    Wanted,
    WorkflowResult,
)
from mesh.inspection.documents.pages import Listed
from mesh.inspection.documents.people import Me
from mesh.inspection.documents.workflows import CauseAndIncidents, CauseDocument, WorkflowDocument, WorkflowItem
from mesh.inspection.inbox import Mine, Own
from mesh.settings import LOOPBACK

T = TypeVar("T")
TIMEOUT_S: Final = 30.0
MOST_ROWS: Final = 1_000  # of a page
_ERRORS: Final[dict[int, type[MeshError]]] = {
    HTTPStatus.BAD_REQUEST: OperatorError,
    HTTPStatus.UNAUTHORIZED: OperatorError,
    HTTPStatus.NOT_FOUND: NotFound,
}


class Api:
    """The API at a URL, with a token."""

    def __init__(self, url: str, token_file: Path, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url, self._transport = url.rstrip("/"), transport
        self._headers = {"authorization": f"Bearer {_token(token_file)}"}
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise OperatorError(
                f"the token would go to {url} for all to read: MESH_CONSOLE_URL must begin with https:// where the "
                "console is on another machine"
            )

    # Approvals ------------------------------------------------------------------------------------

    async def me(self) -> Me:
        return await self._get("me", Me)

    async def own(self) -> Own:
        """What waits for the token's person, and what they may answer for others."""
        me = await self.me()
        mine = Mine(names=me.names, roles=me.roles)
        others = tuple(
            Mine(
                names=one.names,
                roles=one.roles,
                giver=one.person,
                routes=one.routes,
                by_roles=one.by_roles,
                barred=me.names,
            )
            for one in me.answers_for
        )
        return Own(mine, others)

    async def open(self) -> AsyncIterator[Approval]:
        """All that is open, as far as the token's person may see it."""
        whose = "all" if (await self.me()).sees_all else "me"
        after: str | None = ""
        while after is not None:
            page = await self._get("approvals", Listed[Approval], **{"for": whose}, limit=MOST_ROWS, after=after)
            for one in page.items:
                yield one
            after = page.next

    async def closed(self, *, by: str, since: str, limit: int, after: str) -> Listed[Approval]:
        whose = "" if by else "all" if (await self.me()).sees_all else "me"
        return await self._get(
            "approvals",
            Listed[Approval],
            **{"for": whose, "state": "closed", "by": by, "since": since, "after": after},
            limit=limit,
        )

    async def approval(self, approval_id: str) -> Approval:
        return await self._get("approval", Approval, id=approval_id)

    async def answer(self, answer: Answer) -> Receipt:
        """Raises `TimeoutError` if no router has decided in time: then it counts all the same."""
        status, value = await self._ask("POST", "answers", body=answer)
        if status == HTTPStatus.ACCEPTED:
            raise TimeoutError(_as(value, Sent).message)
        if status == HTTPStatus.CONFLICT and value.get("receipt"):
            return _as(value["receipt"], Receipt)
        return _as(_checked(status, value), Receipt)

    # The mesh -------------------------------------------------------------------------------------

    async def workflows(self, **given: str | int | None) -> Listed[WorkflowItem]:
        return await self._get("workflows", Listed[WorkflowItem], **given)

    async def workflow(self, workflow_id: str) -> WorkflowDocument:
        return await self._get("workflow", WorkflowDocument, id=workflow_id, payloads="1")

    async def causes(self, **given: str | int | None) -> Listed[CauseDocument]:
        return await self._get("incidents", Listed[CauseDocument], **given)

    async def cause(self, cause: str, **given: str | int | None) -> CauseAndIncidents:
        return await self._get("incident", CauseAndIncidents, cause=cause, **given)

    # What operators order -------------------------------------------------------------------------

    async def command(self, order: Order) -> Obeyed:
        """Raises `TimeoutError` if no router has decided in time: it is obeyed all the same."""
        status, value = await self._ask("POST", "commands", body=order)
        if status == HTTPStatus.ACCEPTED:
            raise TimeoutError(_as(value, SentCommand).message)
        return _as(_checked(status, value), Obeyed)

    async def fork(self, order: ForkOrder) -> Forked:
        """As `command`."""
        status, value = await self._ask("POST", "forks", body=order)
        if status == HTTPStatus.ACCEPTED:
            raise TimeoutError(_as(value, SentCommand).message)
        return _as(_checked(status, value), Forked)

    async def preview(self, wanted: Wanted) -> Preview:
        return await self._post("operations/preview", wanted, Preview)

    async def order(self, order: BulkOrder) -> OperationItem:
        return await self._post("operations", order, OperationItem)

    async def stop(self, order: StopOrder) -> OperationItem:
        return await self._post("operations/stop", order, OperationItem)

    async def operations(self) -> list[OperationItem]:
        return await self._all("operations", Listed[OperationItem])

    async def operation(self, operation_id: str) -> OperationItem:
        return await self._get("operation", OperationItem, id=operation_id)

    async def results(self, operation_id: str) -> list[WorkflowResult]:
        return await self._all("operation/results", Listed[WorkflowResult], id=operation_id)

    async def letters(self, **given: str | int | None) -> Listed[Letter]:
        return await self._get("dead-letters", Listed[Letter], **given)

    async def all_letters(self, **given: str | int | None) -> list[Letter]:
        return await self._all("dead-letters", Listed[Letter], **given)

    async def settle(self, verb: str, order: LettersOrder) -> LettersDone:
        """Redrive or discard dead letters."""
        return await self._post(f"dead-letters/{verb}", order, LettersDone)

    # The mesh as a whole --------------------------------------------------------------------------

    async def status(self, limit: int) -> MeshDocument:
        return await self._get("status", MeshDocument, limit=min(limit, MOST_ROWS))

    # Requests -------------------------------------------------------------------------------------

    async def _get(self, name: str, wanted: type[T], **given: str | int | None) -> T:
        status, value = await self._ask("GET", name, **given)
        return _as(_checked(status, value), wanted)

    async def _post(self, name: str, body: Any, wanted: type[T]) -> T:
        status, value = await self._ask("POST", name, body=body)
        return _as(_checked(status, value), wanted)

    async def _all(self, name: str, wanted: type[Listed[T]], **given: str | int | None) -> list[T]:
        """Every page of a list."""
        found, after = list[T](), ""
        while True:
            page = await self._get(name, wanted, limit=MOST_ROWS, after=after, **given)
            found += page.items
            if page.next is None:
                return found
            after = page.next

    async def _ask(self, method: str, name: str, body: Any = None, **given: str | int | None) -> tuple[int, Any]:
        query = {key: str(value) for key, value in given.items() if value not in {None, ""}}
        headers = self._headers
        content = None
        if body is not None:
            content, headers = (
                exact_json.encode(msgspec.to_builtins(body)),
                # under one key the same request is harmless, however often it comes
                headers | {"content-type": "application/json", "idempotency-key": uuid4().hex},
            )
        try:
            async with httpx.AsyncClient(transport=self._transport, timeout=TIMEOUT_S) as client:
                url = f"{self._url}/api/v1/{name}"
                ask = partial(client.request, method, url, params=query, content=content, headers=headers)
                try:
                    found = await ask()
                except httpx.RemoteProtocolError:
                    # it died over the request, and may have sent it
                    found = await ask()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokerUnavailable(
                f"the console at {self._url} does not answer: {error or type(error).__name__}; is MESH_CONSOLE_URL right?"
            ) from error
        return found.status_code, self._value(found)

    def _value(self, found: httpx.Response) -> Any:
        try:
            value = exact_json.decode(found.content)
        except exact_json.JsonRefused:
            value = None
        if not isinstance(value, dict):
            raise BrokerUnavailable(
                f"what answers at {self._url} ({found.status_code}) is not a console: is MESH_CONSOLE_URL right?"
            )
        return value


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise OperatorError(f"the token in {path} (MESH_CONSOLE_TOKEN_FILE) can't be read: {reason}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise OperatorError(f"{path} (MESH_CONSOLE_TOKEN_FILE) holds no token: `mesh console token` prints one")
    return token


def _as(value: Any, wanted: type[T]) -> T:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"the console is of another version than this command: {error}") from error


def _checked(status: int, value: Any) -> Any:
    """The value of a 200. Raises what any other status means."""
    if status != HTTPStatus.OK:
        raise _error(status, str(value.get("detail") or status))
    return value


def _error(status: int, detail: str) -> MeshError:
    if status == HTTPStatus.UNAUTHORIZED:
        detail = "the console does not take this token: it has ended, or was revoked (`mesh console token` makes one)"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return BrokerUnavailable(f"the console says: {detail}")
    return _ERRORS.get(status, SenderError)(detail)
