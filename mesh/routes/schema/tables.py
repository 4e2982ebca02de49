"""The tables of docs/route-reference.md, made of `mesh.routes.keys`.

The page marks the place of each with two comments, and names the table between them; for a step,
the kind whose keys it lists. `docs/generate.py` writes them.
"""

import re
from collections.abc import Iterable
from typing import Final, assert_never

from mesh.routes import values
from mesh.routes.keys import AGENT_KINDS, KINDS, ROUTE, STEP, UNDO
from mesh.routes.problems import join
from mesh.routes.schema.route import default_of

_PLACE: Final = re.compile(r"(<!-- keys: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD: Final = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"


def with_tables(page: str) -> str:
    """The page with every table as the code has it.

    Raises `KeyError` for a name without a table.
    """
    tables = tables_by_name()
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", page)


def tables_by_name() -> dict[str, str]:
    found = {table.name: table.keys for table in (*_below(ROUTE), UNDO) if table is not STEP}
    general = {name: key for name, key in STEP.keys.items() if not key.of}
    kinds = {f"step {kind}": {name: key for name, key in STEP.keys.items() if kind in key.of} for kind in KINDS}
    # They take the same keys, but for their own.
    kinds["step agent"] = {name: key for name, key in STEP.keys.items() if {*AGENT_KINDS} & {*key.of}}
    del kinds["step capability"]
    # A kind with one key needs no table of its own: the key's own section says it.
    kinds = {name: keys for name, keys in kinds.items() if len(keys) > 1}
    return {
        name: _HEAD + "".join(_row(key, keys[key]) for key in keys)
        for name, keys in {**found, "step": general, **kinds}.items()
    }


def _below(table: values.Table) -> Iterable[values.Table]:
    yield table
    for key in table.keys.values():
        for kind in key.kind.kinds if isinstance(key.kind, values.OneOf) else (key.kind,):
            if isinstance(kind, values.Table):
                yield from _below(kind)
            elif isinstance(kind, values.Named):
                yield from _below(kind.table)
            elif isinstance(kind, values.Several) and isinstance(kind.of, values.Table):
                yield from _below(kind.of)


def _row(name: str, key: values.Key) -> str:
    meaning = key.text + (f" See [{key.see.replace('-', ' ')}](#{key.see})." if key.see else "")
    cells = (f"`{name}`", _said(key.kind), _default(key), meaning)
    return f"| {' | '.join(cells)} |\n"


def _default(key: values.Key) -> str:
    if key.is_required:
        return "required"
    default = default_of(key)
    words = [f"`{_written(default) if isinstance(default, float) else default}`"] if default is not None else []
    return ", or ".join([*words, *([key.otherwise] if key.otherwise else [])]) or "none"


def _said(kind: values.Kind) -> str:  # noqa: C901, PLR0911, PLR0912 - one case for each kind
    match kind:
        case values.Name():
            return kind.said
        case values.Text():
            return "template" if kind.is_template else "text"
        case values.Expression():
            return "expression"
        case values.Template():
            return "template of any value"
        case values.ListTemplate():
            return "template that gives a list"
        case values.Duration():
            return "duration"
        case values.Choice():
            return join([f"`{option}`" for option in kind.options])
        case values.Whole():
            return f"whole number{_range(kind)}"
        case values.Number():
            return f"number{_range(kind)}"
        case values.Pattern():
            return kind.said
        case values.Names():
            return "list of texts" if kind.of is None else "list of names"
        case values.Several():
            return f"list of them ({_said(kind.of)})" if not isinstance(kind.of, values.OneOf) else "list of them"
        case values.Truth():
            return "`true` or `false`"
        case values.Word():
            return f"`{kind.word}`"
        case values.SchemaDocument():
            return "JSON Schema"
        case values.Table():
            return f"[mapping](#{kind.name})"
        case values.Named():
            return "mapping by name" if kind.table is STEP else f"[mapping by name](#{kind.table.name})"
        case values.Texts():
            return "templates by name"
        case values.OneOf():
            return join([_said(one) for one in kind.kinds])
        case _:
            assert_never(kind)


def _range(kind: values.Whole | values.Number) -> str:
    if kind.low is None:
        return ""
    return (
        f" ({_written(kind.low)} or more)" if kind.high is None else f" ({_written(kind.low)} to {_written(kind.high)})"
    )


def _written(number: float) -> str:
    return f"{number:,}".removesuffix(".0")
