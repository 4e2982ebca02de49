"""`mesh audit verify`: what a bundle proves of approvals, without a broker.

Owns how the report is shown; `mesh.inspection.audit` checks. `mesh log export` writes a bundle.
"""

import sys
from pathlib import Path

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.session import console
from mesh.cli.text.format import counted, printable
from mesh.codec import exact_json
from mesh.errors import OperatorError
from mesh.inspection.audit import Bundle, Report, read_bundle
from mesh.inspection.audit import verify as verified


@click.group(short_help="Verify what the log proves of approvals.")
def audit() -> None:
    """What the log proves: who answered, with which key, on what, and by which rule it closed."""


@audit.command(short_help="Verify a bundle of `mesh log export`.")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs (shapes in docs/cli.md).")
def verify(*, bundle: Path, as_json: bool) -> None:
    """Check BUNDLE, a file of `mesh log export`. It needs no broker and no configuration.

    Each signature is checked over its bytes, and whose key it was at that time; roles and
    exclusion as of then; each vote's digest against its payload; that no answer counts twice; and
    that the votes bring the verdict. One line for each failure, and then the exit code is 1.
    """
    report = verified(_read(bundle))
    if as_json:
        click.echo(exact_json.encode(_document(report), indent=True).decode())
    else:
        _show(report)
    if report.failures:
        sys.exit(FAILED)


def _read(path: Path) -> Bundle:
    try:
        with path.open("rb") as file:
            return read_bundle(file)
    except OSError as error:
        raise OperatorError(f"the bundle {path} can't be read: {error.strerror or error}") from error


def _show(report: Report) -> None:
    out = console(sys.stdout)
    for one in report.failures:
        out.print(Text(f"! {one.offset}  {printable(one.about)}: {printable(one.what)}", style="red"), soft_wrap=True)
    looked = f"{counted(report.decisions, 'decision')}, {counted(report.approvals, 'approval')}"
    counts = f"{counted(report.signed, 'signature')}, {report.claimed:,} claimed"
    files = f", {report.unproven:,} by roles of a file" if report.unproven else ""
    end = f"{counted(len(report.failures), 'failure')}" if report.failures else "all of it holds"
    out.print(Text(f"{printable(report.workflow_id)}: {looked}; {counts}{files}; {end}"), soft_wrap=True)
    if report.claimed:
        out.print(Text("what is claimed proves nothing of who it was: nobody has signed it", style="yellow"))


def _document(report: Report) -> dict[str, object]:
    return {
        "workflow_id": report.workflow_id,
        "decisions": report.decisions,
        "approvals": report.approvals,
        "signed": report.signed,
        "claimed": report.claimed,
        "unproven": report.unproven,
        "failures": [{"offset": one.offset, "about": one.about, "what": one.what} for one in report.failures],
    }
