"""What property tests draw: how many examples, and which where several tests share the work."""

import os

from hypothesis import seed
from hypothesis.stateful import RuleBasedStateMachine


def draws(count: int) -> int:
    """`count` examples; a tenth of them in the quick run (`make check`)."""
    return max(5, count // 10) if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else count


def part_of(machine: type[RuleBasedStateMachine], number: int) -> type[RuleBasedStateMachine]:
    """The machine with draws of its own for each number: several workers share a long run."""
    part = type(f"{machine.__name__}{number}", (machine,), {})
    return seed(number)(part) if os.environ.get("HYPOTHESIS_PROFILE") != "explore" else part
