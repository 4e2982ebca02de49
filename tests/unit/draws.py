"""How many examples property tests draw that need another number than Hypothesis has by default."""

import os


def draws(count: int) -> int:
    """`count` examples; a tenth of them in the quick run (`make check`)."""
    return max(5, count // 10) if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else count
