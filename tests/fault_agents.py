"""Agents of the fault tests: they take a moment, so that something is always in somebody's hands."""

import asyncio

from pydantic import BaseModel

from mesh import agent


class Payload(BaseModel):
    n: int
    text: str


@agent("first", concurrency=32)
async def first(payload: Payload) -> Payload:
    await asyncio.sleep(0.01)
    return payload


@agent("second", concurrency=32)
async def second(payload: Payload) -> Payload:
    await asyncio.sleep(0.01)
    return payload
