"""What a person edits comes back as the same JSON value if they change nothing.

Several lines are several lines.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.approvals.editor import from_editor, to_editor

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_unchanged_text_gives_the_same_payload(payload: Any) -> None:
    assert from_editor(to_editor(payload)) == payload


def test_a_reply_is_readable_and_editable() -> None:
    text = to_editor({"body": "Thanks.\n\n- **One**: yes\n", "labels": ["bug", "severity: high"]})
    assert text == "body: |\n  Thanks.\n\n  - **One**: yes\nlabels:\n  - bug\n  - 'severity: high'\n"
    assert from_editor(text.replace("Thanks.", "Thank you.")) == {
        "body": "Thank you.\n\n- **One**: yes\n",
        "labels": ["bug", "severity: high"],
    }


def test_json_may_be_pasted() -> None:
    assert from_editor('{"body": "a\\nb", "labels": []}') == {"body": "a\nb", "labels": []}


@pytest.mark.parametrize("text", ["", "a: [", "a: 1\n---\nb: 2", "a: !mine x"])
def test_what_is_no_value_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        from_editor(text)
