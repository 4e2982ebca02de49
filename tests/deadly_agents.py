"""An agent for real processes. Some of its tasks end the process, as the out-of-memory killer does.

Each begin is a line in `begun.txt` in the folder `DEADLY_FOLDER`: the task's subject and attempt.
"""

import asyncio
import os
import signal
from pathlib import Path

from mesh import Context, agent

FOLDER = Path(os.environ["DEADLY_FOLDER"])


def note(subject: str, attempt: int) -> None:
    with (FOLDER / "begun.txt").open("a") as file:
        file.write(f"{subject} {attempt}\n")


@agent("deadly", concurrency=4)
async def deadly(subject: str, ctx: Context) -> str:
    """Dies over `killer`, waits for the file `release` over `slow`, and does all else at once."""
    note(subject, ctx.attempt)
    if subject.startswith("killer"):
        await asyncio.sleep(0.05)  # so that others have begun beside it
        os.kill(os.getpid(), signal.SIGKILL)
    if subject.startswith("slow"):
        while not (FOLDER / "release").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)
    if subject.startswith("neighbour"):
        await asyncio.sleep(0.2)
    return subject
