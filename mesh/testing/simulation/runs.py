"""One run from its seed: `simulate`.

Owns the run's outcome and its story. Tests and the command line call it.
"""

import io
from collections import Counter
from collections.abc import Callable

import msgspec

from mesh.testing.simulation.drawn import draw_routes
from mesh.testing.simulation.plan import Plan
from mesh.testing.simulation.transcript import Transcript
from mesh.testing.simulation.world import World
from mesh.testing.virtual_time.loop import VirtualTimeLoop, run

_LAST_LINES = 60


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run went.

    `findings` is empty if every promise was kept. `counts` counts what happened.
    """

    plan: Plan
    findings: list[str]
    counts: Counter[str]
    transcript: Transcript

    def story(self, *, whole: bool = False) -> str:
        """What to show when the run failed.

        That is the end of the transcript, the routes that were drawn, the findings, and how to run
        it again.
        """
        lines = list(self.transcript.lines())
        shown = lines if whole else lines[-_LAST_LINES:]
        left_out = [f"... {len(lines) - len(shown)} lines before"] if len(shown) < len(lines) else []
        again = f"again: python -m mesh.testing.simulation {self.plan.seed} --verbose"
        return "\n".join([*left_out, *shown, "", drawn_yaml(self.plan), "", *self.findings, "", again])


def drawn_yaml(plan: Plan) -> str:
    """The routes that the plan's seed draws, as a route file.

    The fixed routes that they call or wait for are in `routes`.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to load, and most runs go well

    yaml = YAML()
    yaml.width = 150
    yaml.default_flow_style = None
    written = io.StringIO()
    yaml.dump_all([route.first.definition for route in draw_routes(plan.seed, plan.drawn)], written)
    return written.getvalue()


def simulate(
    seed: int, *, plan: Plan | None = None, world: Callable[[VirtualTimeLoop, Plan, Transcript], World] = World
) -> Outcome:
    """Run a seed.

    What a run itself raises (a deadlock, a task's unhandled exception) is a finding too.
    """
    plan = plan or Plan.of(seed)
    transcript = Transcript()
    worlds: list[World] = []

    async def main(loop: VirtualTimeLoop) -> None:
        worlds.append(world(loop, plan, transcript))
        await worlds[0].run()

    with transcript.services_speak():
        try:
            run(main, seed=seed, limit_s=7_200.0)
        except Exception as error:
            if not worlds:
                raise
            worlds[0].promises.findings.append(f"the run ended: {error!r}")
    promises = worlds[0].promises
    return Outcome(plan=plan, findings=promises.findings, counts=promises.counts, transcript=transcript)
