"""The benchmark's agents: they do nothing, so that all the time is the mesh's."""

from typing import Any

from mesh import agent


@agent("bench-one", concurrency=64)
async def one(value: dict[str, Any]) -> dict[str, Any]:
    return value


@agent("bench-two", concurrency=64)
async def two(value: dict[str, Any]) -> dict[str, Any]:
    return value


@agent("bench-three", concurrency=64)
async def three(value: dict[str, Any]) -> dict[str, Any]:
    return value
