"""The console's list of workflows: its counts, its pages, and the order of its rows."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from console_pages import OPERATOR_NAME, Mesh, small_mesh
from msgspec.structs import replace
from sample_mesh import asked, event_cause, started, workflow

from mesh.console import words
from mesh.console.pages import workflows
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import WorkflowRow, workflow_rows


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path) as found:
        yield found


async def rows(mesh: Mesh, **wanted: Any) -> Page[WorkflowRow]:
    return await mesh.console.desk.log(lambda db: queries.workflows(db, **wanted))


@pytest.mark.parametrize("filters", [{}, {"route": "issue-triage"}, {"route": "none"}, {"part": "repo#3"}])
async def test_the_views_of_a_list_count_what_they_show(mesh: Mesh, filters: dict[str, str]) -> None:
    found = await mesh.console.desk.log(lambda db: workflows._views(db, filters))
    if not filters:
        assert found == {"": 3, "incident": 1, "asking": 1, "open": 2, "ended": 1}
    for name, count in found.items():
        page = await rows(mesh, limit=50, **filters, **workflows.of_state(name))
        assert (len(page), page.total) == (count, count)


async def test_where_many_workflows_fit_they_are_read_in_the_order_of_the_list(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listed() -> list[list[str]]:
        by = ({"step": "review"}, {"agent": "classifier"}, {"under_way": "asking"})
        return [[row.workflow_id for row in await rows(mesh, limit=2, **one)] for one in by]

    for number in range(100, 103):
        await mesh.writer.decide(workflow(number), event_cause(number, number), started(number), asked(number, number))
    await mesh.settle()
    few = await listed()
    assert few[0] == few[2] == [workflow(102), workflow(101)]
    monkeypatch.setattr(workflow_rows, "_DENSE", 0)
    assert await listed() == few


async def test_a_list_is_cut_into_pages_that_together_have_every_row_once(mesh: Mesh) -> None:
    for number in range(100, 175):
        await mesh.writer.decide(workflow(number), event_cause(number, number), started(number))
    await mesh.settle()
    browser, seen, path = mesh.browser(OPERATOR_NAME), list[str](), "/workflows"
    while path:
        text = await browser.shows(path)
        seen += re.findall(r'title="(issue-triage:[^"]*)"', text)
        found = re.search(r'rel="next" href="([^"]*)"', text)
        path = f"/workflows{found[1].replace('&amp;', '&')}" if found else ""
    assert sorted(seen) == sorted({*map(workflow, [1, 2, 3, *range(100, 175)])})


async def test_workflows_with_one_cause_are_retried_together(mesh: Mesh) -> None:
    [cause] = await mesh.console.desk.log(queries.causes)
    one = await mesh.console.desk.log(lambda db: queries.example(db, cause.cause))
    assert words.helps(one, cause) == f"mesh workflows retry '{workflow(3)}'"
    assert words.helps(one, replace(cause, workflows=2)) == f"mesh workflows retry --cause {cause.cause}"
