"""aiokafka's consumers, producers and admin clients, and what they have in common.

What in them must live, and how each is ended, whatever happened to it. Owns what is known of
aiokafka's background tasks. It starts none of its clients and knows no record. Called by `cluster`,
`consumers` and `producers`.

A task of an aiokafka 0.14 client may meet an error that it does not expect. What becomes of the
client then:

| the task | who learns of it | what the client does from then on |
| --- | --- | --- |
| refreshes metadata | nobody | waits without end for a leader; `stop` raises the error (a) |
| fetches | nobody: `getmany` gives nothing | reads nothing; `stop` raises the error (a) |
| coordinates a group's member | `getmany`, each time | is in no group; `stop` works |
| sends heartbeats, reads commits | `getmany`, each time | loses its share unnoticed; `stop` works |
| sends batches | each batch | `producers` retires it for that |

(a) and leaves connections open. Every client has a task that refreshes metadata; the leader is that
of a partition or of a group.

No client recovers by itself, so its holder has to make another: `ailment` says when.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import structlog

CLOSE_S: Final = 5.0  # what an orderly close may take before connections are cut
_TASKS: Final = (
    ("_client", "_sync_task"),
    ("client", "_sync_task"),  # a producer's client is public
    ("_fetcher", "_fetch_task"),
    ("_coordinator", "_coordination_task"),
    ("_coordinator", "_heartbeat_task"),
    ("_coordinator", "_commit_refresh_task"),
    ("_coordinator", "_reset_committed_task"),
    ("_sender", "_sender_task"),
)

_log = structlog.get_logger(__name__)


def ailment(client: Any) -> str:
    """Which of its tasks died, and why; "" while it is well."""
    for name, task in _tasks(client):
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            return f"{name.strip('_')} ended: {error!r}"
    return ""


async def end(client: Any, stop: Coroutine[Any, Any, None], name: str) -> None:
    """Run `stop`, the client's own, and make sure that nothing is left of the client.

    Takes at most 4 * `CLOSE_S`, and never raises: errors are logged.
    """
    stopping = asyncio.ensure_future(stop)
    # in a join that waits for others, say: without its connections, it ends
    if not await _ended({stopping}):
        await disconnect(client, name)
        await _ended({stopping})
    left = {task for task in (stopping, *(task for _, task in _tasks(client))) if not task.done()}
    for task in left:
        task.cancel()
    # a task that lives on would connect again: a member that nobody hears would keep its share
    await _ended(left)
    for _, task in _tasks(client):
        task.add_done_callback(_see)
    _tell(stopping, name)
    await disconnect(client, name)


async def disconnect(client: Any, name: str) -> None:
    """Cut the client's connections, so that whatever waits for an answer fails.

    Bounded, and never raises.
    """
    connections = client.client if hasattr(client, "client") else client._client  # noqa: SLF001 - aiokafka has no public way to stop at once
    refreshing = connections._sync_task  # noqa: SLF001 - as above
    if refreshing is not None and refreshing.done():
        connections._sync_task = None  # noqa: SLF001 - `close` would raise what ended it, before it closes anything
    closing = asyncio.ensure_future(connections.close())
    await _ended({closing})
    _tell(closing, name)


def _tasks(client: Any) -> Iterator[tuple[str, "asyncio.Task[Any]"]]:
    for part, name in _TASKS:
        task = getattr(getattr(client, part, None), name, None)
        if task is not None:
            yield name, task


async def _ended(tasks: "set[asyncio.Future[None]] | set[asyncio.Task[Any]]") -> bool:
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_S)
    return all(task.done() for task in tasks)


def _see(task: "asyncio.Task[Any]") -> None:
    """Look at what ended it, so that asyncio does not report it as never seen."""
    if not task.cancelled():
        task.exception()


def _tell(closing: "asyncio.Future[None]", name: str) -> None:
    if not closing.done():
        closing.cancel()
        _log.warning("kafka_close_hangs", client=name, after_s=CLOSE_S)
    elif not closing.cancelled() and (error := closing.exception()) is not None:
        _log.warning("kafka_close_failed", client=name, error=repr(error))
