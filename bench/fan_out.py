"""How fast a for-each is: many small ones with their joins, and one large one.

    python bench/fan_out.py [--broker sqlite|kafka] [--workflows 3000] [--large 10000]

Owns the routes and the figures; `steps` has the processes. Router and agents are processes of their
own, and the agents do nothing. It prints one line of JSON:

    workflows_per_s     workflows of a for-each over ten items and a step that needs it; all events
                        are on the topic when the router starts
    tasks_per_s         their tasks, eleven each
    large_s             seconds from the first decision of one workflow with `--large` items to its
                        outcome
    large_tasks_per_s   its tasks a second
"""

import argparse
import json
import os
from contextlib import ExitStack

from steps import Bench, all_at_once, event, on_broker

from mesh.wiring import run

ROUTES = """\
route: bench-fan
on: {type: bench.fan}
key: ${{ event.subject }}
steps:
  each: {for_each: {items: "${{ event.data.items }}", concurrency: 1000}, agent: bench-one, input: {n: "${{ item }}"}, timeout: 1h}
  join: {needs: each, agent: bench-two, input: {count: "${{ size(steps.each) }}"}}
"""
ITEMS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--broker", choices=("sqlite", "kafka"), default="sqlite")
    parser.add_argument("--workflows", type=int, default=3_000)
    parser.add_argument("--large", type=int, default=10_000)
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with on_broker(arguments.broker) as (url, folder):

        async def measure() -> None:
            for name, count, items in (("small", arguments.workflows, ITEMS), ("large", 1, arguments.large)):
                (folder / name).mkdir()
                bench = Bench(url, folder / name, f"{name}{os.getpid()}.", ROUTES)
                events = [event(n, "bench.fan", {"items": list(range(items))}) for n in range(count)]
                with ExitStack() as processes:
                    took_s, _ = await all_at_once(bench, events, processes)
                if name == "small":
                    found["workflows_per_s"] = round(count / took_s)
                    found["tasks_per_s"] = round(count * (items + 1) / took_s)
                else:
                    found["large_s"] = round(took_s, 2)
                    found["large_tasks_per_s"] = round((items + 1) / took_s)

        run(measure())
    print(json.dumps({"broker": arguments.broker, "workflows": arguments.workflows, "large": arguments.large, **found}))


if __name__ == "__main__":
    main()
