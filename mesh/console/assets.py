"""Style and script: files of the package, each served under a name that has its hash.

So a browser may keep them, and never has an old one.
"""

from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.responses import Response

_TYPES: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Assets:
    """All of them, read once."""

    def __init__(self) -> None:
        folder = files("mesh.console") / "static"
        self._bytes = {name: (folder / name).read_bytes() for name in _TYPES}
        self._names = {name: _hashed(name, content) for name, content in self._bytes.items()}

    def url(self, name: str) -> str:
        return f"/static/{self._names[name]}"

    def answer(self, hashed: str) -> Response | None:
        """The file under this name; None: there is none."""
        name = next((name for name, known in self._names.items() if known == hashed), None)
        if name is None:
            return None
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(self._bytes[name], media_type=_TYPES[name], headers=headers)


def _hashed(name: str, content: bytes) -> str:
    stem, _, ending = name.partition(".")
    return f"{stem}.{sha256(content).hexdigest()[:12]}.{ending}"
