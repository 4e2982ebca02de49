"""What of a page can change is in one of its live parts, so that nobody has to reload for it."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from console_pages import OPERATOR_NAME, Mesh, small_mesh, until
from sample_mesh import run, workflow

from mesh.core import events as ev

LISTS = ["/", "/approvals?for=all", "/approvals?state=closed&for=all", "/workflows", "/incidents", "/operations"]
LISTS += ["/dead-letters", "/agents"]
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Frame(HTMLParser):
    """A page without its live parts, and without what the script renews besides: title and mark."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._inside = 0  # how deep in a live part
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        is_part = tag == "title" or any(name == "data-part" for name, _ in attrs)
        if tag not in VOID and (self._inside or is_part):
            self._inside += 1
        elif not self._inside:
            self.lines.append(f"{tag} {[pair for pair in attrs if pair[0] != 'data-since']}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._inside:
            self.lines.append(f"{tag} {attrs}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = max(0, self._inside - 1)

    def handle_data(self, data: str) -> None:
        if not self._inside and data.strip():
            self.lines.append(data.strip())


async def frames(mesh: Mesh, paths: list[str]) -> dict[str, list[str]]:
    browser = mesh.browser(OPERATOR_NAME)
    return {path: Frame(await browser.shows(path)).lines for path in paths}


@pytest.mark.parametrize("of", ["lists", "workflow"])
async def test_what_changes_of_a_page_is_in_its_live_parts(tmp_path: Path, of: str) -> None:
    if of == "lists":
        for name in ("before", "after"):
            (tmp_path / name).mkdir()
        async with small_mesh(tmp_path / "before", is_empty=True) as mesh:
            before = await frames(mesh, LISTS)
        async with small_mesh(tmp_path / "after") as mesh:
            await until(lambda: mesh.console.desk.projector.status is not None)
            assert await frames(mesh, LISTS) == before
        return
    async with small_mesh(tmp_path) as mesh:
        page = [f"/workflow?id={quote(workflow(3), safe='')}"]
        before = await frames(mesh, page)
        ended = ev.WorkflowEnded(
            status="cancelled", reason="by an operator", run_id=run(3), traceparent="", output={}, usage={}
        )
        await mesh.writer.decide(workflow(3), ev.Cause(kind="command", id="c-1"), ended)
        await mesh.settle()
        assert await frames(mesh, page) == before
