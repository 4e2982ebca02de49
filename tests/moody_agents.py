"""Agents of the acceptance tests. The environment sets their temper when they are started."""

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from mesh import Context, agent


class Payload(BaseModel):
    n: int


class Reply(BaseModel):
    n: int
    text: str


@agent("moody", concurrency=8)
async def moody(payload: Payload) -> Payload:
    """Raises, until it is started again with `MOOD=good`."""
    if os.environ.get("MOOD") != "good":
        raise RuntimeError(f"not in the mood for {payload.n}")
    return payload


@agent("drafter", concurrency=8)
async def draft(payload: Payload) -> Reply:
    return Reply(n=payload.n, text=f"draft {payload.n}")


@agent("stranger", concurrency=8)
async def shape(payload: Payload) -> Payload:
    """Returns something that is not its type."""
    return {"m": payload.n}  # type: ignore[return-value]  # that is the point


@agent("slow", concurrency=2)
async def slow(payload: Payload, ctx: Context) -> Payload:
    """Writes down when it begins and ends, and waits in between.

    It waits for as long as `SLOW_S` says, and until the file `release` exists.
    """
    folder = Path(os.environ["SLOW_FOLDER"])
    _note(folder, f"begin {ctx.task_id}/{ctx.attempt}")
    await asyncio.sleep(float(os.environ.get("SLOW_S", "0")))
    while not (folder / "release").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    _note(folder, f"end {ctx.task_id}/{ctx.attempt}")
    return payload


@agent("picky", concurrency=8, max_outstanding=2)
async def picky(payload: Payload, ctx: Context) -> Payload:
    """Works as `slow`, but says that it wants at most two tasks at once in all its processes."""
    folder = Path(os.environ["SLOW_FOLDER"])
    _note(folder, f"begin {ctx.task_id}/{ctx.attempt}", "picky")
    await asyncio.sleep(float(os.environ.get("SLOW_S", "0")))
    _note(folder, f"end {ctx.task_id}/{ctx.attempt}", "picky")
    return payload


def _note(folder: Path, line: str, who: str = "slow") -> None:
    with (folder / f"{who}.log").open("a") as file:
        file.write(line + "\n")
