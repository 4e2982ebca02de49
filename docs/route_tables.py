"""Writes the tables of docs/route-reference.md from the code: `python docs/route_tables.py`."""

from pathlib import Path
from typing import Final

from mesh.routes.schema.tables import with_tables

PAGE: Final = Path(__file__).parent / "route-reference.md"


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
