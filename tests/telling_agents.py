"""An agent that says what it was given: in its output, and in the error of its first attempt."""

from typing import Any

from mesh import Context, agent


@agent("teller")
async def tell(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    if ctx.attempt == 1:
        raise RuntimeError(f"not for {payload['name']}")
    return {"told": payload["name"], "n": 1}
