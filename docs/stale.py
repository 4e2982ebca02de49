"""Says which generated files are stale: `python -m docs.stale`, a part of `make lint`.

Owns the list of generators. It writes nothing, and names the command that would.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from docs import generate as pages
from topics import generate as contracts

ROOT: Final = Path(__file__).resolve().parent.parent


def generated() -> dict[str, Mapping[Path, str]]:
    """What each command would write."""
    return {"python docs/generate.py": pages.files(), "python -m topics.generate": contracts.files()}


def stale(generated: Mapping[str, Mapping[Path, str]]) -> Iterator[str]:
    """A line for each file that is not what its generator would write."""
    for command, files in generated.items():
        for path, text in files.items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
                yield f"{name} is stale: run `{command}`, and commit what it writes\n"


def main() -> int:
    lines = [*stale(generated())]
    sys.stderr.writelines(lines)
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
