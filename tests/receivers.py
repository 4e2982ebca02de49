"""Receivers of notices on loopback: a web server and a mail server, each with a will of its own.

Owns the least of both protocols that a test needs to see what arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message
from typing import NamedTuple


class Posted(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class WebServer:
    """`statuses`: says with which status a request is answered, by what was taken before."""

    def __init__(self, status: Callable[[Posted], int]) -> None:
        self._status = status
        self.taken: list[Posted] = []
        self.refused: list[Posted] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                headers: dict[str, str] = {}
                while (raw := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = raw.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                posted = Posted(line.decode().split()[1], headers, body)
                status = self._status(posted)
                (self.taken if status < 300 else self.refused).append(posted)
                writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


class MailServer:
    """`refuse`: recipients that it does not know."""

    def __init__(self, *refuse: str) -> None:
        self._refuse = refuse
        self.taken: list[Message] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test ready\r\n")
        try:
            while line := await reader.readline():
                writer.write(await self._said(line.decode().strip(), reader, writer))
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _said(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        verb = line.upper()
        if verb.startswith("RCPT") and any(name in line for name in self._refuse):
            return b"550 nobody here has this name\r\n"
        if verb.startswith("QUIT"):
            return b"221 bye\r\n"
        if verb == "DATA":
            writer.write(b"354 go on\r\n")
            lines = []
            while (one := await reader.readline()) != b".\r\n":
                lines.append(one.removeprefix(b"."))
            self.taken.append(message_from_bytes(b"".join(lines)))
        return b"250 ok\r\n"


@asynccontextmanager
async def web_server(status: Callable[[Posted], int] = lambda _: 200) -> AsyncIterator[WebServer]:
    """A web server on a free port."""
    made = WebServer(status)
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@asynccontextmanager
async def mail_server(*refuse: str) -> AsyncIterator[MailServer]:
    """A mail server on a free port."""
    made = MailServer(*refuse)
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
