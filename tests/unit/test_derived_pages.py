"""Pages that are written from the code say what the code says."""

from pathlib import Path

import pytest

from docs import generate, stale
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


def test_a_stale_file_and_one_that_is_not_there_are_named_with_the_command(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    same.write_text("1")
    other.write_text("2")
    wanted = {same: "1", other: "3", tmp_path / "new": "4"}
    lines = [*stale.stale({"make it": wanted})]
    assert lines == [
        f"{tmp_path / name} is stale: run `make it`, and commit what it writes\n" for name in ("other", "new")
    ]


def test_nothing_generated_is_stale() -> None:
    assert [*stale.stale(stale.generated())] == []
