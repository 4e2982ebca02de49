"""`mesh doctor`: what is wrong with the mesh itself, why it matters, and what to do.

Owns the layout and the exit code; `mesh.inspection.doctor` examines.
"""

import sys
from collections.abc import Callable
from typing import Final

import click
from rich.text import Text

from mesh.cli.exit_codes import BROKER, FAILED
from mesh.cli.options import Seconds
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.times import rfc3339
from mesh.inspection.doctor import Diagnosis, Examined, Finding, examine
from mesh.inspection.doctor.examine import LIMIT_S
from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.table import OPEN_BROKER
from mesh.inspection.read_model import ReadModel, model_path
from mesh.ports import Broker

SIGNS: Final = {"error": ("!", "bold red"), "warning": ("·", "yellow"), "note": (" ", "dim")}
OUTCOMES: Final = {
    "good": ("ok", "green"),
    "found": ("look", "yellow"),
    "failed": ("FAILED", "bold red"),
    "late": ("HANGS", "bold red"),
    "skipped": ("skipped", "dim"),
}


@click.command(short_help="Examine the mesh itself: broker, topics, processes, files.")
@click.option(
    "--timeout", "limit_s", type=Seconds(), default=LIMIT_S, show_default=True, help="How long one check may take."
)
@click.option("--strict", is_flag=True, help="Exit with 1 also where there are only warnings.")
@mesh_command
def doctor(session: Session, *, limit_s: float, strict: bool) -> None:
    """Examine the mesh itself, and say what is wrong, why it matters, and what to do.

    It changes nothing. Exits with 4 if the broker can't be reached, with 1 if anything is an error,
    else with 0.
    """
    patient = Patient(session.settings, session.clock)
    found = session.run(
        examine(patient, lambda: session.broker(read_only=True), _model_of(session, patient), limit_s=limit_s)
    )
    if session.as_json:
        session.emit(document(found))
    else:
        session.show(*render(found))
    if code := exit_code(found, strict=strict):
        sys.exit(code)


def _model_of(session: Session, patient: Patient) -> Callable[[Broker], ReadModel]:
    """How the read model is opened, so that it tells how far it was behind."""

    def tell(left: int) -> None:
        patient.unread_before = max(patient.unread_before, left)

    path = model_path(session.settings.data_dir, session.settings.broker, session.settings.topic_prefix)
    return lambda broker: ReadModel(broker, session.topics, path, on_progress=tell)


def exit_code(found: Diagnosis, *, strict: bool = False) -> int:
    """By the worst of all findings."""
    if any(one.check == OPEN_BROKER and one.outcome in {"failed", "late"} for one in found.checks):
        return BROKER
    return FAILED if found.worst == "error" or (strict and found.worst == "warning") else 0


def render(found: Diagnosis) -> list[Text]:
    """A line for each check, with its findings below it, and the sum at the end."""
    lines = [Text(f"broker {printable(found.broker)}", style="dim")]
    for one in found.checks:
        lines += _lines(one)
    counts = dict.fromkeys(SIGNS, 0)
    for finding in (finding for one in found.checks for finding in one.findings):
        counts[finding.severity] += 1
    said = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)
    style = SIGNS[found.worst][1] if found.worst else "green"
    return [*lines, Text(), Text(said or "Nothing is wrong.", style=style)]


def _lines(one: Examined) -> list[Text]:
    word, style = OUTCOMES[one.outcome]
    head = Text(f"{word:<8}", style=style) + Text(f"{one.check:<16}") + Text(printable(one.said), style="dim")
    return [head, *(line for finding in one.findings for line in _of_finding(finding))]


def _of_finding(finding: Finding) -> list[Text]:
    sign, style = SIGNS[finding.severity]
    return [
        Text(f"  {sign} ", style=style) + Text(printable(finding.what)),
        Text(f"      why: {printable(finding.why)}", style="dim"),
        Text(f"      do:  {printable(finding.next_step)}", style="dim"),
    ]


def document(found: Diagnosis) -> dict[str, object]:
    return {
        "broker": found.broker,
        "at": rfc3339(found.at_ms),
        "worst": found.worst,
        "checks": [
            {
                "check": one.check,
                "outcome": one.outcome,
                "took_ms": one.took_ms,
                "said": one.said,
                "findings": [
                    {"severity": f.severity, "what": f.what, "why": f.why, "next": f.next_step} for f in one.findings
                ],
            }
            for one in found.checks
        ],
    }
