"""Measures everything, and writes `docs/performance.md` and its picture.

Owns the page's text and picture; the other benchmarks measure. So the page and the program can't
drift apart.

    python bench/report.py        (about four minutes; needs Java and Maven for the Kafka part)
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

PAGE = """\
# How fast it is

Measured are three-step workflows with agents that do nothing and 500 bytes of JSON. Every decision is
in the log before its task is sent; router and agents are separate processes. The same run also
measures the **floor**: two processes that write and read the same records, with no rules, checks,
envelopes or timers (`bench/floor.py`). Absolute figures depend on the machine, and this one is
shared and noisy: compare the ratios.

Measured with `python bench/report.py` on {machine}.

![workflows per second, ours and the floor's](performance.svg)

| | embedded (SQLite) | its floor | Kafka, its JVM on the same cores | its floor |
| --- | --- | --- | --- | --- |
| 3-step workflows/s, all at once | {s[workflows_per_s]} | {s[floor][workflows_per_s]} | {k[workflows_per_s]} | {k[floor][workflows_per_s]} |
| steps/s | {s[steps_per_s]} | | {k[steps_per_s]} | |
| one at a time, p50 / p99 ms | {s[single_ms][p50]} / {s[single_ms][p99]} | {s[floor][single_ms][p50]} / {s[floor][single_ms][p99]} | {k[single_ms][p50]} / {k[single_ms][p99]} | {k[floor][single_ms][p50]} / {k[floor][single_ms][p99]} |
| answer to next dispatch, p50 / p99 ms | {s[answer_ms][p50]} / {s[answer_ms][p99]} | | {k[answer_ms][p50]} / {k[answer_ms][p99]} | |
| memory after {s[workflows]} workflows, router / agents, MB | {s[memory_mb][router]} / {s[memory_mb][agents]} | | {k[memory_mb][router]} / {k[memory_mb][agents]} | |
| a router killed: longest wait of any workflow, s | {fs[failover_s]} | | {fk[failover_s]} | |
| a for-each over 10 items and its join, workflows/s | {os[workflows_per_s]} | | {ok[workflows_per_s]} | |
| one for-each over {os[large]} items, s | {os[large_s]} | | {ok[large_s]} | |
| workflows/s with 10 routes loaded / with 1000 | {few} / {many} | | | |

A workflow of three steps is four decisions. Nine records pass between the processes one after the
other (event, input, three tasks, three results, outcome), with four appends acknowledged in between.
"One at a time" is mostly the time to wake processes up. The floor has seven such hops, because it has
no ingress and no outcome. On Kafka a workflow takes 24 requests and their answers (16 for the floor).
45 % of the router's processor time went into writing to sockets, which wakes their readers (sampled
in a run of 1,200 workflows, one at a time).

## Where a decision's time goes

Microseconds of the router's processor time for one decision; a workflow has four (`python bench/decisions.py`):

| part | µs |
| --- | --- |
{parts}

Not in this table, per decision: reading, appending and sending (on SQLite 5 to 8 µs in batches of
hundreds), the loop, timers and bookkeeping.

To compare versions on a machine that others use too: `python bench/cpu_time.py --against CHECKOUT`
gives the processor time of a workflow in the router and in the agents, the least of alternating
rounds.

## Why it is fast

- One poll, one batch of decisions for each partition, one append, one check of its acknowledgement,
  one send. Tasks and futures exist per batch, not per message.
- Batches are pipelined: the next batch is decided on the unconfirmed state while appends are on the
  wire; only effects wait.
- Each record is decoded once and encoded once. Records are msgspec structures, and what is valid is
  not validated again. Rules are compiled to closures.
- What concerns few decisions is asked once, of the set of the classes of a decision's events.
- Ownership and state are kept over a rebalance: the check of the next append says whether they are
  still valid.
- No turn of the loop is long: a checkpoint is written in portions as large as the turn's own records,
  and write-ahead logs are moved into their files next to the commits.
- uvloop is used, and the garbage collector skips long-lived values.
"""

SVG_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="system-ui, sans-serif" font-size="14">'
    '<rect width="720" height="{height}" fill="#ffffff"/>'
)
BAR_START, BAR_MAX, ROW = 210, 400, 34


def bench(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench" / name), *arguments]
    print("running", name, *arguments, file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def picture(rows: list[tuple[str, int, str]]) -> str:
    """Draw bars. Each row is a label, a value and a colour."""
    most, height = max(value for _, value, _ in rows), 50 + ROW * len(rows)
    parts = [SVG_HEAD.format(height=height), '<text x="16" y="28" font-weight="600">3-step workflows per second</text>']
    for n, (label, value, colour) in enumerate(rows):
        y = 46 + ROW * n
        width = max(2, round(BAR_MAX * value / most))
        parts.append(f'<text x="{BAR_START - 10}" y="{y + 17}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{BAR_START}" y="{y}" width="{width}" height="24" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{BAR_START + width + 8}" y="{y + 17}">{value:,}</text>')
    return "".join(parts) + "</svg>\n"


def main() -> None:
    sqlite, kafka = bench("steps.py", "--broker", "sqlite"), bench("steps.py", "--broker", "kafka")
    failover = {broker: bench("failover.py", "--broker", broker) for broker in ("sqlite", "kafka")}
    fan_out = {broker: bench("fan_out.py", "--broker", broker) for broker in ("sqlite", "kafka")}
    few, many = (bench("steps.py", "--singles", "0", "--routes", str(count)) for count in (10, 1_000))
    parts = bench("decisions.py")
    machine = f"{platform.system()} with {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    page = PAGE.format(
        machine=machine,
        s=sqlite,
        k=kafka,
        fs=failover["sqlite"],
        fk=failover["kafka"],
        os=fan_out["sqlite"],
        ok=fan_out["kafka"],
        few=few["workflows_per_s"],
        many=many["workflows_per_s"],
        parts="\n".join(f"| {name} | {taken} |" for name, taken in parts.items()),
    )
    (DOCS / "performance.md").write_text(page)
    ours, floor = "#2563eb", "#cbd5e1"
    rows = [
        ("mesh, SQLite", sqlite["workflows_per_s"], ours),
        ("floor, SQLite", sqlite["floor"]["workflows_per_s"], floor),
        ("mesh, Kafka", kafka["workflows_per_s"], ours),
        ("floor, Kafka", kafka["floor"]["workflows_per_s"], floor),
    ]
    (DOCS / "performance.svg").write_text(picture(rows))


if __name__ == "__main__":
    main()
