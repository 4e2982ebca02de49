"""Plots of the overview: what is counted, what is drawn, and what is said of it."""

from pathlib import Path

from console_pages import OPERATOR_NAME, small_mesh
from sample_mesh import event_cause, run, started, workflow

from mesh.console.plots import SPANS, plots, times_of
from mesh.core import events as ev
from mesh.inspection.read_model.queries import RateRow
from mesh.inspection.read_model.rates import class_of, duration_of

NOW_MS = 1_763_900_123_000


def test_a_duration_is_off_by_less_than_a_tenth() -> None:
    for ms in (1, 7, 480, 1_000, 59_999, 3_600_000, 30 * 86_400_000):
        assert abs(duration_of(class_of(ms)) - ms) <= ms * 0.1
    assert class_of(0) == 0


def test_each_plot_says_in_a_sentence_what_it_shows() -> None:
    for span in SPANS:
        times = times_of(span, NOW_MS)
        last = times.first_ms + (times.many - 1) * times.every_ms
        assert last <= NOW_MS < last + times.every_ms
        rows = [
            RateRow(last, "completed", 90),
            RateRow(last, "failed", 10),
            RateRow(last, f"took/{class_of(2_000)}", 95),
            RateRow(last, f"took/{class_of(60_000)}", 5),
            RateRow(times.first_ms, "completed", 1),
            RateRow(times.first_ms - times.every_ms, "completed", 1_000),
            RateRow(last, "incidents", 1),
            RateRow(last, "spent/usd", 1.25),
        ]
        found = {plot.title: plot for plot in plots(rows, span, NOW_MS)}
        assert found["Ended"].said.startswith("91 completed, 10 failed in the last")
        assert "at most 100 in" in found["Ended"].said
        took = found["Time to the end, p50 and p95"].said
        assert "took up to 2.0 s from its event to its end, 95 % up to 2.0 s" in took
        assert found["Incidents raised"].said.startswith("1 incident was raised in the last")
        assert "have spent 1.25 usd" in found["Spent: usd"].said
        assert found["Ended"].svg.count("<rect") == 3
        for plot in found.values():
            assert f'role="img" aria-label="{plot.said}"' in plot.svg
            assert "style=" not in plot.svg


def test_where_nothing_has_happened_the_plots_say_so() -> None:
    found = plots([], "24h", NOW_MS)
    assert [plot.said for plot in found] == [
        "Nothing ended in the last 24 hours.",
        "Nothing ended in the last 24 hours.",
        "0 incidents were raised in the last 24 hours.",
    ]
    assert not any("<rect" in plot.svg or "<circle" in plot.svg for plot in found)


async def test_what_ends_is_on_the_overview(tmp_path: Path) -> None:
    async with small_mesh(tmp_path) as mesh:
        mesh.writer.now_ms = mesh.console.desk.now_ms() - 60_000
        await mesh.writer.decide(workflow(30), event_cause(30, 30), started(30))
        ended = ev.WorkflowEnded(
            status="completed",
            reason="done",
            run_id=run(30),
            traceparent="",
            usage={"usd": 0.5, "tokens": 1_200},
        )
        await mesh.writer.decide(workflow(30), event_cause(30, 31), ended, after_ms=4_000)
        await mesh.settle()
        page = await mesh.browser(OPERATOR_NAME).shows("/?span=1h")
        assert "1 completed in the last hour" in page
        assert "have spent 0.5 usd" in page
        assert "have spent 1200 tokens" in page
        assert "95 % up to 4.0 s" in page
        assert "can&#39;t be &#39;1y&#39;" in await mesh.browser(OPERATOR_NAME).shows("/?span=1y", status=400)
