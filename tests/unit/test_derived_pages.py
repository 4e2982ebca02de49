"""Pages that are written from the code say what the code says."""

from pathlib import Path

import pytest

from docs import generate
from mesh.settings import PREFIX, Settings


@pytest.mark.parametrize("path", generate.files(), ids=lambda path: str(path.name))
def test_derived_pages_are_as_the_code_makes_them(path: Path) -> None:
    assert path.read_text() == generate.files()[path], "run `python docs/generate.py`"


def test_every_setting_has_a_text_a_form_and_a_default() -> None:
    texts = generate.attribute_texts(Settings)
    assert set(texts) == set(Settings.model_fields), "write a docstring below each setting"
    for name, field in Settings.model_fields.items():
        assert generate.form(name, field), name
        assert generate.default(name, field), name


def test_every_number_has_a_range() -> None:
    rows = {
        row.split("|")[1].strip(" `"): row for row in generate.settings_page().splitlines() if row.startswith("| `")
    }
    for name, field in Settings.model_fields.items():
        if field.annotation in {int, float}:
            assert generate.allowed(field), name
            assert generate.allowed(field) in rows[PREFIX + name.upper()]
