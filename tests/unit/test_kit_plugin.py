"""The pytest plugin: the fixture as a user's test has it.

Golden transcripts, `--regen`, and what a failure shows. Every inner run has warnings as errors.
"""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

TEST = '''
from mesh.testing import fails

ROUTE = """
route: refund
on: {type: shop.refund}
key: ${{ event.subject }}
steps:
  pay: {agent: payer, input: "${{ event.data }}", retry: {backoff: 1h, max_backoff: 1h, jitter: 0}}
"""

def test_a_refund_is_paid_at_last(mesh_kit):
    mesh_kit.route(ROUTE)
    mesh_kit.agent("payer", fails("ConnectError", times=1), then={"paid": True})
    run = mesh_kit.publish(type="shop.refund", subject="42", data={"amount": 9})
    mesh_kit.note("The bank is down.")
    assert run.outcome.data == {"pay": {"paid": True}}
    mesh_kit.publish(type="shop.unknown")
    mesh_kit.matches("paid.txt")
'''

GOLDEN = """\
A refund is paid at last
========================

route refund
    pay: {"agent":"payer","input":"${{ event.data }}","retry":{"backoff":"1h","max_backoff":"1h","jitter":0}}

00:00:00  refund:42  event event-1, shop.refund 42: {"amount":9}
    it begins, as RUN1
    -> task pay to payer: {"amount":9} (the workflow started)
    = running: pay running

00:00:00  refund:42  payer fails at pay: ConnectError: as scripted
    pay will be tried again in 1h
    = running: pay retrying

# The bank is down.

01:00:00  refund:42  it is time to try pay again
    -> task pay to payer: {"amount":9} (attempt 2 of 3, after ConnectError: as scripted)
    = running: pay running

01:00:00  refund:42  payer answers pay: {"paid":true}
    -> outcome completed: {"pay":{"paid":true}}
    = completed: pay succeeded

01:00:00  event event-2, shop.unknown: null: nobody takes it
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_refund=TEST)
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    quiet = ("-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error")
    return inner.runpytest_inprocess("-p", "mesh.testing.pytest_plugin", *quiet, *arguments)


def test_pytest_finds_the_plugin_by_itself() -> None:
    [found] = [point for point in entry_points(group="pytest11") if point.value == "mesh.testing.pytest_plugin"]
    assert found.name == found.value, "so that `pytest_plugins = [...]` does not load it twice"


def test_the_plugin_loads_nothing_of_the_mesh_until_it_is_used() -> None:
    script = "import sys, mesh.testing.pytest_plugin; print([n for n in sys.modules if n.startswith(('mesh.core', 'mesh.services', 'mesh.testing.kit'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_golden_transcript_that_is_not_there_says_how_to_write_it(inner: pytest.Pytester) -> None:
    result = run(inner)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*paid.txt is not there yet; `pytest --regen` writes it. What happened:*"])


def test_regen_writes_it_and_it_reads_as_a_conversation(inner: pytest.Pytester) -> None:
    run(inner, "--regen").assert_outcomes(passed=1)
    assert (inner.path / "paid.txt").read_text() == GOLDEN
    run(inner).assert_outcomes(passed=1)


def test_a_golden_transcript_that_differs_shows_the_diff_and_the_line_of_the_test(inner: pytest.Pytester) -> None:
    (inner.path / "paid.txt").write_text(
        GOLDEN.replace("1h", "2h").replace("01:00:00  refund:42  payer", "02:00:00  refund:42  payer")
    )
    result = run(inner)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       mesh_kit.matches("paid.txt")',
            "*paid.txt is not what happened (`pytest --regen` rewrites it; review its diff):*",
            "*-    pay will be tried again in 2h*",
            "*+    pay will be tried again in 1h*",
        ]
    )
    assert "mesh/testing/kit" not in result.stdout.str(), "the kit's own frames are not the test's concern"


def test_a_failure_shows_what_happened_in_the_mesh(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_refund=TEST.replace('{"paid": True}}', '{"paid": 1}}').replace(
            "assert run.outcome.data ==", "assert run.outcome.data is"
        )
    )
    result = run(inner)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*what happened in the mesh*", "*payer answers pay*"])


def test_tests_do_not_see_each_other_nor_change_the_process(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_more=TEST.replace("    mesh_kit.matches", "    assert len(mesh_kit.stage.workflows()) == 1  #")
        + """
def test_nothing_is_left(mesh_kit):
    import asyncio, structlog
    assert not mesh_kit.stage.heard
    assert asyncio._get_running_loop() is None
    assert structlog.get_config()["wrapper_class"] is not None
"""
    )
    run(inner, "test_more.py", "test_more.py::test_a_refund_is_paid_at_last", "-p", "no:randomly").assert_outcomes(
        passed=2
    )


def test_the_fixture_may_be_imported_instead(inner: pytest.Pytester) -> None:
    inner.makeconftest("from mesh.testing.pytest_plugin import mesh_kit  # noqa: F401")
    (inner.path / "paid.txt").write_text(GOLDEN)
    result = inner.runpytest_inprocess(
        "-p", "no:mesh.testing.pytest_plugin", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"
    )
    result.assert_outcomes(passed=1)


def test_a_route_file_is_found_beside_the_test_and_named(inner: pytest.Pytester) -> None:
    folder = inner.mkdir("desk")
    (folder / "refund.yaml").write_text(TEST.partition('"""')[2].partition('"""')[0])
    inside = TEST.replace("mesh_kit.route(ROUTE)", "mesh_kit.route('refund.yaml')")
    (folder / "test_desk.py").write_text(inside)
    run(inner, "--regen", "desk").assert_outcomes(passed=1)
    assert "route refund, from refund.yaml\n" in (folder / "paid.txt").read_text()


def test_the_example_of_the_page_passes_as_it_is_there(pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing-routes.md").read_text()
    for name, opening in (
        ("refund.yaml", "```yaml"),
        ("test_refund.py", "```python"),
        ("refund-big.txt", "```\nA big"),
    ):
        _, _, rest = page.partition(opening)
        text = opening.partition("\n")[2] + rest.partition("```")[0]
        (pytester.path / name).write_text(text.lstrip("\n"))
    run(pytester).assert_outcomes(passed=1)
