"""What schemathesis draws of both OpenAPI documents is answered as they say.

These are a few requests each; `schemathesis_targets.py` draws as many as one likes.
"""

from pathlib import Path

import pytest
from schemathesis_targets import ask, targets


@pytest.mark.deep
@pytest.mark.parametrize(("name", "requests"), [("gateway", 100), ("console", 100)])
def test_every_drawn_request_is_answered_as_the_document_says(name: str, requests: int, tmp_path: Path) -> None:
    with targets(name, tmp_path) as target:
        ask(target, requests)
    # what was drawn came through, and was not all refused at the door
    assert {200, 202} & {status for _, status in target.seen}
    assert target.seen.total() >= requests
