"""What a query gives: rows, whose fields have the order of its columns."""

import msgspec


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A row, built by position: its fields have the order of the query's columns."""


def columns_of(row: type[Row]) -> str:
    """The columns of a query for this row, where they are named as its fields are."""
    return ", ".join(row.__struct_fields__)
