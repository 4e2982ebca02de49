"""A part of a list, as the API has it."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from mesh.inspection.read_model.pages import Page

Item = TypeVar("Item")
Row = TypeVar("Row")


class Listed(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Some of the items of a list.

    `total`: how many the whole list has. `next`: what `after` takes for the next page; null on the
    last.
    """

    items: tuple[Item, ...]
    total: int
    next: str | None


def listed(items: Sequence[Item], page: Page[Row]) -> Listed[Item]:
    return Listed(items=tuple(items), total=page.total, next=page.after)


def page_of(found: Listed[Item], back: Callable[[Item], Row]) -> Page[Row]:
    """The page that a list was made of."""
    return Page([back(item) for item in found.items], total=found.total, after=found.next)
