"""An agent of the acceptance tests that is registered for a capability.

Its name is the one that it is started with.
"""

import os

from pydantic import BaseModel

from mesh import agent


class Text(BaseModel):
    text: str
    to: str


class Translation(BaseModel):
    text: str
    by: str


@agent(os.environ["TRANSLATOR"], capabilities=["translate"])
async def translate(given: Text) -> Translation:
    return Translation(text=f"{given.text} ({given.to})", by=os.environ["TRANSLATOR"])
