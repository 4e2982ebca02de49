"""All worlds of a model that can be reached from its first one."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

World = TypeVar("World")


def reached(first: World, following: Callable[[World], Iterable[World]]) -> set[World]:
    seen = {first}
    todo = deque(seen)
    while todo:
        new = set(following(todo.popleft())) - seen
        seen |= new
        todo += new
    return seen
