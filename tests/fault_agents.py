"""Agents of the fault tests. They take a moment, so that there is always work in flight."""

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
