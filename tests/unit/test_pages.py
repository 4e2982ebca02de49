"""Pages link only to what is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Targets of links and images that stay within the project."""
    for match in LINK.finditer(CODE.sub("", text)):
        target = match[1] or match[2]
        if not urlsplit(target).scheme and not target.startswith("//"):
            yield target


def anchors(text: str) -> set[str]:
    """The headings' ids, as GitHub makes them."""
    blocks = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(blocks.sub("", text))]
    return {heading.replace(" ", "-") for heading in plain}


def broken(page: Path) -> list[str]:
    found = []
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        place = (page.parent / unquote(path)).resolve() if path else page
        if (
            not place.is_relative_to(ROOT)
            or not place.exists()
            or (anchor and place.suffix == ".md" and anchor not in anchors(place.read_text()))
        ):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = "# A `b`-c\n[x](no.md) ![y](../z.png) <https://a.b> [w](https://a.b/c.md) `[code](n.md)`\n\n[r]: d/e.md\n"
    assert list(links(text)) == ["no.md", "../z.png", "d/e.md"]
    assert anchors(text) == {"a-b-c"}


@pytest.mark.parametrize("name", ["docs/extending.md", "docs/concepts.md"])
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    """`steps.py` or `schema/steps.py`: the end of some path of the project."""
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.json|\.yaml|/))`", (ROOT / name).read_text()))
    folders = [ROOT / folder for folder in ("mesh", "tests", "topics", "docs")]
    there = [f"{path.as_posix()}/" if path.is_dir() else path.as_posix() for one in folders for path in one.rglob("*")]
    there += [f"{one.as_posix()}/" for one in folders]
    assert [one for one in sorted(named) if not any(path.endswith(f"/{one}") for path in there)] == []
