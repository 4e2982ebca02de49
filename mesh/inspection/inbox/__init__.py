"""The inbox of people who answer approvals: a cache of what is open, and what it answers."""

from mesh.inspection.inbox.entries import (
    ALL,
    Filters,
    Mine,
    OpenRow,
    Waiting,
    asked_of,
    count_of,
    find,
    givers_of,
    ids_containing,
    of_workflow,
    page_of,
)
from mesh.inspection.inbox.inbox import Inbox
from mesh.inspection.inbox.own import Own, own_among
from mesh.inspection.inbox.schema import inbox_path

__all__ = [
    "ALL",
    "Filters",
    "Inbox",
    "Mine",
    "OpenRow",
    "Own",
    "Waiting",
    "asked_of",
    "count_of",
    "find",
    "givers_of",
    "ids_containing",
    "inbox_path",
    "of_workflow",
    "own_among",
    "page_of",
]
