"""What metrics cost: processor time of a workflow, with metrics off and on, in alternating runs.

    python bench/metrics_cost.py [--rounds 6] [--workflows 5000]

Owns only which runs there are; `cpu_time` measures each. It prints microseconds a workflow, the
least of the rounds, and what on costs above off. Nothing is scraped meanwhile: a scrape costs the
same however many workflows there are.
"""

import argparse
import json
import os

from cpu_time import ROOT, run

# port 0: router and agents each take a free one
ON = {"MESH_METRICS": "prometheus", "MESH_METRICS_ADDRESS": "127.0.0.1:0"}
OFF = {"MESH_METRICS": "off"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--workflows", type=int, default=5_000)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    for number in range(arguments.rounds):
        ways = [("off", OFF), ("on", ON)]
        # forwards and backwards, so that neither always runs after the other
        for name, environment in ways if number % 2 == 0 else ways[::-1]:
            os.environ.update(environment)
            found[name].append(run(ROOT, arguments.workflows))
    least = {name: {part: min(one[part] for one in runs) for part in runs[0]} for name, runs in found.items()}
    for part in least["off"]:
        off, on = least["off"][part], least["on"][part]
        print(json.dumps({"part": part, "off": off, "on": on, "more": f"{on / off - 1:.1%}"}))


if __name__ == "__main__":
    main()
