"""Runs the checks: side by side, each bounded in time, and none hinders another.

Owns the order (what needs no broker, then what needs it, then what needs the read model), and what
becomes of a check that fails or hangs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.table import CHECKS, OPEN_BROKER, READ_LOG, Check, Needs
from mesh.inspection.doctor.values import Diagnosis, Examined, Finding, Outcome, Result
from mesh.inspection.read_model import ReadModel
from mesh.ports import Broker

LIMIT_S: Final = 10.0
"""For one check.

The read model has `_READING` times that: it may be made for the first time.
"""
_READING: Final = 6
_OPENING_S: Final = 5.0
"""How much longer opening the broker may take: its client gives up after ten seconds itself, and
then says why."""
_CLOSING_S: Final = 5.0

_log = structlog.get_logger()

OpenBroker = Callable[[], AbstractAsyncContextManager[Broker]]
OpenModel = Callable[[Broker], ReadModel]


async def examine(
    patient: Patient,
    open_broker: OpenBroker,
    open_model: OpenModel,
    *,
    limit_s: float = LIMIT_S,
    slack_s: float = _OPENING_S,
    checks: Sequence[Check] = CHECKS,
) -> Diagnosis:
    """Make all checks. It ends in bounded time, whatever hangs."""
    at_ms, made = patient.clock.now_ms(), list[Examined]()
    apart = asyncio.create_task(_side_by_side(patient, checks, "nothing", limit_s))
    async with _closing(patient) as opened:
        made.append(await _bounded(OPEN_BROKER, lambda: _open_broker(patient, open_broker, opened), limit_s + slack_s))
        if patient.opened is not None:
            made.append(
                await _bounded(READ_LOG, lambda: _read_log(patient, open_model, opened), limit_s * _READING),
            )
            made += await _side_by_side(patient, checks, "broker", limit_s)
        if patient.caught_up is not None:
            made += await _side_by_side(patient, checks, "log", limit_s)
        made += await apart
    return Diagnosis(broker=patient.settings.broker, at_ms=at_ms, checks=tuple(_in_order(made, checks)))


async def _open_broker(patient: Patient, open_broker: OpenBroker, opened: AsyncExitStack) -> Result:
    began = time.monotonic()
    broker = await opened.enter_async_context(open_broker())
    await broker.topics()
    patient.opening_ms = _since_ms(began)
    patient.opened = broker
    return Result(said=f"answers in {patient.opening_ms:,} ms")


async def _read_log(patient: Patient, open_model: OpenModel, opened: AsyncExitStack) -> Result:
    began = time.monotonic()
    model = await opened.enter_async_context(open_model(patient.broker))
    await model.catch_up()
    patient.caught_up = model
    behind = f", after {patient.unread_before:,} new records" if patient.unread_before else ""
    return Result(said=f"caught up in {_since_ms(began):,} ms{behind}")


@asynccontextmanager
async def _closing(patient: Patient) -> AsyncIterator[AsyncExitStack]:
    """What was opened is closed in bounded time, and an error on the way changes no finding."""
    opened = AsyncExitStack()
    try:
        yield opened
    finally:
        try:
            async with asyncio.timeout(_CLOSING_S):
                await patient.close()
                await opened.aclose()
        except Exception as error:  # noqa: BLE001 - the examination is over, and its findings count
            _log.debug("doctor_could_not_close", error=str(error))


async def _side_by_side(patient: Patient, checks: Sequence[Check], needs: Needs, limit_s: float) -> list[Examined]:
    chosen = [check for check in checks if check.needs == needs]
    return list(await asyncio.gather(*(_bounded(one.name, partial(one.look, patient), limit_s) for one in chosen)))


async def _bounded(name: str, look: Callable[[], Awaitable[Result]], limit_s: float) -> Examined:
    """One check. Whatever it raises is a finding, and so is that it did not end."""
    began = time.monotonic()
    work = asyncio.ensure_future(look())
    done, _ = await asyncio.wait([work], timeout=limit_s)
    took_ms = _since_ms(began)
    if not done:
        # not awaited: what hangs may also hang while it is cancelled
        work.cancel()
        work.add_done_callback(_forget)
        late = Finding(
            severity="error",
            what=f"the check did not end within {limit_s:g} s",
            why="nothing is known of what it looks at; what is so slow will also hinder routers and agents",
            next_step="look at the load of the broker and of this machine; to wait longer: mesh doctor --timeout SECONDS",
        )
        return Examined(check=name, outcome="late", took_ms=took_ms, findings=(late,))
    try:
        result = work.result()
    except Exception as error:  # noqa: BLE001 - a check that fails must not end the others
        return Examined(check=name, outcome="failed", took_ms=took_ms, findings=(_failed(error),))
    outcome: Outcome = "found" if any(one.severity != "note" for one in result.findings) else "good"
    return Examined(check=name, outcome=outcome, took_ms=took_ms, said=result.said, findings=result.findings)


def _forget(work: "asyncio.Future[Result]") -> None:
    """Look at its exception, so that asyncio does not report it as never seen."""
    with suppress(asyncio.CancelledError):
        work.exception()


def _failed(error: Exception) -> Finding:
    return Finding(
        severity="error",
        what=str(error) or type(error).__name__,
        why="the check could not be made, so nothing is known of what it looks at",
        next_step="remove the cause that the message names, and run mesh doctor again",
    )


def _in_order(made: Sequence[Examined], checks: Sequence[Check]) -> list[Examined]:
    """All checks in the table's order; those that could not be made are skipped."""
    known = {one.check: one for one in made}
    names = [OPEN_BROKER, READ_LOG, *(check.name for check in checks)]
    return _said_once([known.get(name) or Examined(check=name, outcome="skipped", took_ms=0) for name in names])


def _said_once(made: Sequence[Examined]) -> list[Examined]:
    """Several checks ask for one look at the mesh. The first of them says why it failed."""
    first: dict[Finding, str] = {}
    for one in made:
        if one.outcome in {"failed", "late"}:
            first.setdefault(one.findings[0], one.check)
    return [
        replace(one, said=f"as {first[one.findings[0]]}", findings=())
        if one.outcome in {"failed", "late"} and first[one.findings[0]] != one.check
        else one
        for one in made
    ]


def _since_ms(began: float) -> int:
    return int((time.monotonic() - began) * 1_000)
