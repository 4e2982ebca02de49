"""Run seeds, and tell the story of those that break a promise.

Usage: `python -m mesh.testing.simulation SEED [COUNT] [--verbose] [--routes]`.
"""

import argparse
import sys
import time
from collections import Counter

from mesh.testing.simulation.plan import Plan
from mesh.testing.simulation.runs import drawn_yaml, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mesh.testing.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many seeds, from SEED on")
    parser.add_argument("--verbose", action="store_true", help="the whole transcript, also of a run that went well")
    parser.add_argument("--routes", action="store_true", help="only print the routes that SEED draws, as a route file")
    arguments = parser.parse_args()
    if arguments.routes:
        print(drawn_yaml(Plan.of(arguments.seed)), end="")  # noqa: T201 - this is what it is for
        return 0
    counts: Counter[str] = Counter()
    broken, begun_s = [], time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        outcome = simulate(seed)
        counts += outcome.counts
        if outcome.findings:
            broken.append(seed)
        if outcome.findings or arguments.verbose:
            print(outcome.story(whole=arguments.verbose))  # noqa: T201 - as above
    took_s = time.perf_counter() - begun_s
    print(", ".join(f"{name} {number}" for name, number in sorted(counts.items())))  # noqa: T201
    print(f"{arguments.count} seeds in {took_s:.1f} s, {len(broken)} broke a promise: {broken}")  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
