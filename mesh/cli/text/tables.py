"""Tables without lines: a dim head, and columns that people can copy from.

Owns their look. Every command that lists something calls it.
"""

from collections.abc import Container

from rich.table import Table


def plain_table(*names: str, whole: Container[str] = (), numbers: Container[str] = ()) -> Table:
    """An empty table. Columns in `whole` are never wrapped; `numbers` are aligned right."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name in whole, justify="right" if name in numbers else "left")
    return table
