"""What the three designs of `agents/three_designs` need for the same tickets.

    python bench/three_designs.py

Owns the measuring. It uses the real router and the real agents in virtual time, where every agent
takes a second. So the figures are exact and the same on every machine: how many tasks a ticket
takes, and how long it takes when only the agents' time counts.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Any, Final, NamedTuple

from agents.three_designs import agents
from mesh.testing.kit import MeshKit, later

FOLDER: Final = Path(agents.__file__).parent
DESIGNS: Final = ("chain", "dag", "mesh")
CREW: Final = (
    agents.intake,
    agents.find,
    agents.look_back,
    agents.write,
    agents.check,
    agents.dispatch,
    agents.billing,
    agents.technical,
    agents.account,
)
UNKNOWN: Final = {"text": "Qwertz!", "customer": "Ada"}
"""A ticket that no article speaks of."""


class Measured(NamedTuple):
    """The figures of one ticket in one design."""

    tasks: int
    seconds: float
    end: Any


def measure(design: str, ticket: Any) -> Measured:
    with MeshKit(title=design) as kit:
        kit.route(FOLDER / "routes")
        crew = [kit.agent(one.name, later("1s", one)) for one in CREW]
        run = kit.publish(type=f"com.example.ticket.{design}", subject="1", data=ticket)
        begun = kit.now
        outcome = run.outcome
        return Measured(sum(len(one.calls) for one in crew), (kit.now - begun).total_seconds(), outcome.data)


def row(design: str, measured: list[Measured], unknown: Measured) -> str:
    tasks, seconds = mean(one.tasks for one in measured), mean(one.seconds for one in measured)
    return f"| {design} | {tasks:.1f} | {seconds:.1f} | {unknown.tasks} tasks, {unknown.seconds:.0f} s |"


def main() -> None:
    tickets = json.loads((FOLDER / "samples" / "tickets.json").read_text())
    found = {design: [measure(design, ticket) for ticket in tickets] for design in DESIGNS}
    print("| design | tasks a ticket | seconds a ticket | a ticket that nobody can answer |\n| --- | --- | --- | --- |")
    for design, measured in found.items():
        print(row(design, measured, measure(design, UNKNOWN)))
    ends = zip(*found.values(), strict=True)
    same = sum(len({json.dumps(one.end) for one in answers}) == 1 for answers in ends)
    print(f"{same} of {len(tickets)} tickets have the same answer in all three designs.")


if __name__ == "__main__":
    main()
