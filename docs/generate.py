"""Writes the pages that can be derived from the code: `python docs/generate.py`.

Owns `docs/settings.md`, which comes from `mesh.settings.Settings`, `docs/metrics.md`, which comes
from `mesh.metrics.names`, the tables of `docs/route-reference.md` and `docs/route.schema.json`,
which come from `mesh.routes.keys`, and `docs/console.openapi.json`, which comes from
`mesh.console.api.table`. `make lint` and a test compare what is committed with what this would
write.
"""

import ast
import inspect
import sys
import typing
from pathlib import Path
from typing import Any, Final

import orjson

from mesh.console.api.document import document
from mesh.console.api.table import ENDPOINTS
from mesh.metrics import names
from mesh.metrics.meters import MOST_SERIES
from mesh.routes.schema.route import route_schema
from mesh.routes.schema.tables import with_tables
from mesh.setting_values import SettingField
from mesh.settings import PREFIX, Settings

FOLDER: Final = Path(__file__).parent

UNITS: Final = {"_s": "seconds", "_bytes": "bytes", "_records": "records"}
"""By the last word of a setting's name."""

FORMS: Final = {
    "broker": "URL",
    "partitions": "partitions",
    "task_partitions": "partitions",
    "replicas": "copies",
}
"""What a name's last word does not say."""

DEFAULTS: Final = {"instance": "host and process id", "heartbeat_file": "`<data_dir>/heartbeat`"}
"""Defaults that are worked out when a process starts."""

HEAD: Final = """\
# Settings

Every setting is an environment variable. Its name is `MESH_` and the field's name in capitals. A
command's option wins over the variable, the variable over the default. An empty variable counts as
unset. No `.env` file is read: a process runs with what its environment says
([how to use one](installing.md#env-files)). A misspelt or impossible setting stops the command,
with a message that names the variable.

This page is written by `python docs/generate.py` from `Settings` in `mesh/settings.py`. Do not edit it.

| variable | unit or form | range | default | what it sets |
| --- | --- | --- | --- | --- |
"""

TAIL: Final = """
Ranges are written as in mathematics: `[1, 300]` includes both ends, `(0, 600]` leaves out the 0.

## Variables that are not settings

| variable | used by | what it does |
| --- | --- | --- |
| `MESH_BY` | `mesh approve`, `reject` and the operators' commands | who you are, where `--by` is not given; else the login name |
| `COLUMNS`, `NO_COLOR`, `FORCE_COLOR`, `EDITOR` | the command line | as everywhere |
| `OTEL_...` | services | OpenTelemetry's own, where `MESH_TRACE_EXPORTER` or `MESH_METRICS` is `otlp` |

The agents of the issue desk have variables of their own: [issue-triage.md](issue-triage.md#settings).
"""


def settings_page() -> str:
    """The page, row by row in the order of the class."""
    texts = attribute_texts(Settings)
    rows = [row(name, field, texts.get(name, "")) for name, field in Settings.model_fields.items()]
    return HEAD + "".join(rows) + TAIL


def attribute_texts(owner: type) -> dict[str, str]:
    """The string below each attribute, as one line."""
    (body,) = [node for node in ast.parse(inspect.getsource(owner)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def row(name: str, field: SettingField, text: str) -> str:
    cells = (f"`{PREFIX}{name.upper()}`", form(name, field), allowed(field), default(name, field), text)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def form(name: str, field: SettingField) -> str:
    """The unit of a number, or what kind of text it is."""
    if name in FORMS:
        return FORMS[name]
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), None)
    if unit is not None:
        return unit
    kinds = {field.annotation, *typing.get_args(field.annotation)}
    if field.annotation == tuple[Path, ...]:
        return "paths, separated by commas"
    if Path in kinds:
        return "path"
    return "one word" if choices(field) else "text"


def allowed(field: SettingField) -> str:
    """`[1, 300]`, the words to choose from, or the pattern."""
    words = choices(field)
    if words:
        return ", ".join(f"`{word}`" for word in words)
    ends: dict[str, str] = {}
    if field.pattern is not None:
        ends["pattern"] = f"`{field.pattern}`"
    if field.gt is not None:
        ends["low"] = f"({field.gt}"
    if field.ge is not None:
        ends["low"] = f"[{field.ge}"
    if field.le is not None:
        ends["high"] = f"{field.le}]"
    return ends.get("pattern") or (f"{ends['low']}, {ends['high']}" if ends.keys() >= {"low", "high"} else "")


def choices(field: SettingField) -> tuple[str, ...]:
    annotation: Any = field.annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def default(name: str, field: SettingField) -> str:
    if name in DEFAULTS:
        return DEFAULTS[name]
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value)
    return f"{value:g}" if isinstance(value, float) else f"{value}" if isinstance(value, int) else f"`{value}`"


METRICS_HEAD: Final = """\
# Metrics

`MESH_METRICS=prometheus` has each service answer scrapes at `MESH_METRICS_ADDRESS`.
`MESH_METRICS=otlp` has it send the same numbers to the collector at `MESH_OTLP_ENDPOINT` every 15
seconds. `off`, the default, counts nothing. More: [operating](operating.md#metrics). What to do when
an alert fires: [runbook](runbook.md).

The first name is Prometheus's; the second is OpenTelemetry's, as OTLP sends it. Of a histogram,
Prometheus has `_bucket`, `_sum` and `_count`. What is counted begins at 0 when its process starts.
Each process tells its own share, so sum over processes: each partition has one owner.

This page is written by `python docs/generate.py` from `mesh/metrics/names.py`. Do not edit it.
"""


def metrics_page() -> str:
    """The page: a table for each kind of process, then the attributes."""
    parts = "".join(_metrics_of(part, metrics) for part, metrics in names.PARTS.items())
    attributes = "".join(
        f"| `{names.prometheus_label(name)}` | `{name}` | {meaning} |\n" for name, meaning in names.ATTRIBUTES.items()
    )
    return (
        f"{METRICS_HEAD}{parts}\n## Attributes\n\nEach is a name of a short list, and never an id or a key. "
        f"After {MOST_SERIES:,} series of a metric\nall more are counted under `{names.OTHER}`.\n\n"
        f"| label | attribute | it is |\n| --- | --- | --- |\n{attributes}"
    )


def _metrics_of(part: str, metrics: tuple[names.Metric, ...]) -> str:
    head = f"\n## Of {part}\n\n| metric | kind, unit | attributes | meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(_metric_row(metric) for metric in metrics)


def _metric_row(metric: names.Metric) -> str:
    attributes = ", ".join(f"`{names.prometheus_label(name)}`" for name in metric.attributes)
    unit = metric.unit.strip("{}")
    kind = metric.kind if unit == "1" else f"{metric.kind}, {unit}"
    return f"| `{metric.prometheus_name}`<br>`{metric.name}` | {kind} | {attributes} | {metric.meaning} |\n"


def files() -> dict[Path, str]:
    """Every derived page and what it should hold."""
    reference = FOLDER / "route-reference.md"
    return {
        FOLDER / "settings.md": settings_page(),
        FOLDER / "metrics.md": metrics_page(),
        reference: with_tables(reference.read_text(encoding="utf-8")),
        # as `mesh routes schema` prints it
        FOLDER / "route.schema.json": orjson.dumps(route_schema(), option=orjson.OPT_INDENT_2).decode() + "\n",
        # as the console serves it at /api/openapi.json
        FOLDER / "console.openapi.json": orjson.dumps(document(ENDPOINTS), option=orjson.OPT_INDENT_2).decode() + "\n",
    }


def main() -> None:
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(FOLDER.parent)}\n")


if __name__ == "__main__":
    main()
