"""An agent of a project of its own: it counts the words of a text.

Its image is the mesh's and this file, and its Deployment comes from `values.yaml`. Nothing of the
mesh is changed for it.
"""

from pydantic import BaseModel

from mesh import agent


class Text(BaseModel):
    text: str


class Count(BaseModel):
    words: int


@agent("word-counter")
async def count(text: Text) -> Count:
    """Counts words."""
    return Count(words=len(text.text.split()))
