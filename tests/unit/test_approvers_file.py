"""`approvers.yaml` in its long form: people with further names and roles."""

from pathlib import Path

import pytest

from mesh.codec.approvers_file import load_approvers, load_people
from mesh.core.people import Person
from mesh.errors import SettingsInvalid


def file_of(folder: Path, text: str) -> Path:
    file = folder / "approvers.yaml"
    file.write_text(text)
    return file


def persons(folder: Path, text: str) -> list[Person]:
    return sorted(load_people(file_of(folder, text)).persons.values(), key=lambda person: person.id)


def test_roles_with_people_are_people_without_further_names(tmp_path: Path) -> None:
    found = persons(tmp_path, "lead: ana\nfinance: [ana, ben]\n")
    assert found == [
        Person(id="ana", roles=frozenset({"lead", "finance"})),
        Person(id="ben", roles=frozenset({"finance"})),
    ]


def test_a_person_has_the_roles_of_both_forms_whatever_name_a_list_uses(tmp_path: Path) -> None:
    text = "lead: SLACK:u1\nfinance: [Ana, ben]\npeople:\n  ana: {names: 'slack:U1', roles: [audit]}\n"
    ana, ben = persons(tmp_path, text)
    assert ana == Person(id="ana", names=("slack:U1",), roles=frozenset({"lead", "finance", "audit"}))
    assert ben == Person(id="ben", roles=frozenset({"finance"}))
    assert load_approvers(tmp_path / "approvers.yaml") == {"ana": ana.roles, "ben": ben.roles}


def test_without_further_names_a_file_means_what_it_always_did(tmp_path: Path) -> None:
    file = file_of(tmp_path, "lead: [Ana, ana]\npeople: [ana]\n")
    assert load_approvers(file) == {"Ana": frozenset({"lead"}), "ana": frozenset({"lead", "people"})}
    assert persons(tmp_path, file.read_text()) == [Person(id="Ana", roles=frozenset({"lead", "people"}))]


def test_an_empty_file_is_nobody(tmp_path: Path) -> None:
    assert persons(tmp_path, "") == []


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("people:\n  ana: lead\n", 2, "ana needs names and roles, not a string"),
        ("people:\n  ana: {name: x}\n", 2, "ana has the key name; there are names and roles"),
        ("people:\n  ana: {names: [1]}\n", 2, "the names of ana must be a list of words"),
        ("people:\n  ana: {roles: ' x'}\n", 2, "the roles of ana must be a list of words"),
        ("people:\n  '': {roles: x}\n", 2, "a person's id is nobody"),
        ("people:\n  ana: {names: x}\n  ben: {names: [X]}\n", 3, "ana and ben share the name X"),
        ("people:\n  ana: {}\n  ANA: {}\n", 3, "ana and ANA share the name ANA"),
    ],
)
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    file = file_of(tmp_path, text)
    for load in (load_people, load_approvers):
        with pytest.raises(SettingsInvalid) as caught:
            load(file)
        assert str(caught.value).startswith(f"{file}:{line}: {what}")
