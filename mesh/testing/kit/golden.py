"""Golden transcripts: files that hold what happened, to be reviewed when they change."""

from difflib import unified_diff
from pathlib import Path

from mesh.testing.kit.errors import TranscriptDiffers, is_for_the_test

__tracebackhide__ = is_for_the_test


def compare(text: str, path: Path, *, regen: bool) -> None:
    """Compare the text with the file, or write it if `regen`.

    Raises `TranscriptDiffers` with a diff if they are not the same.
    """
    if regen:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        return
    fix = "`pytest --regen` rewrites it; review its diff"
    if not path.exists():
        raise TranscriptDiffers(f"{path} is not there yet; `pytest --regen` writes it. What happened:\n\n{text}")
    golden = path.read_text(encoding="utf-8")
    if text != golden:
        diff = "".join(
            unified_diff(
                golden.splitlines(keepends=True), text.splitlines(keepends=True), path.name, "what happened", n=4
            )
        )
        raise TranscriptDiffers(f"{path} is not what happened ({fix}):\n\n{diff}")
