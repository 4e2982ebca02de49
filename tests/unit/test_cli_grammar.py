"""The command line's grammar: nouns and verbs, short forms, help, completion, and usage errors."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from sample_mesh import write_sample

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import COMMANDS, SHORT_FORMS, mesh
from mesh.cli.grammar import NounGroup


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
    await write_sample(broker)
    await broker.close()
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    # so that two commands say the same of how long ago a thing was
    now_ms = SystemClock().now_ms()
    monkeypatch.setattr(SystemClock, "now_ms", lambda _: now_ms)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, list(arguments))


def walk(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that name it."""
    if words:
        yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from walk(member, (*words, name))


EVERY = dict(walk(mesh))
# each noun, and the verb that it means by itself
BARE = {w[0]: command.bare for w, command in EVERY.items() if isinstance(command, NounGroup) and len(w) == 1}
NOUNS = sorted(BARE)


# Nouns, verbs and short forms ---------------------------------------------------------------------


def test_every_noun_lists_and_people_are_shown() -> None:
    listed = ["agents", "approvals", "approver", "calendars", "clock", "dlq", "events", "notices", "routes", "topics"]
    listed += ["incidents", "workflow", "workflows", "absences", "delegations", "operations"]
    assert dict.fromkeys(listed, "list") | {"people": "show"} == BARE
    assert all((noun, verb) in EVERY for noun, verb in BARE.items())


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_alone_lists_with_options_and_without(folder: Path, noun: str) -> None:
    for options in ((), ("--json",)):
        bare, whole = (call(noun, *verb, *(() if noun == "workflow" else options)) for verb in ((), (BARE[noun],)))
        assert (bare.exit_code, bare.stdout) == (0, whole.stdout), bare.output


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("workflow {id}", "workflows show {id}"),
        ("workflow --payloads {id}", "workflows show --payloads {id}"),
        ("workflow show {id}", "workflows show {id}"),
        ("workflow list", "workflows list"),
        ("workflow", "workflows"),
        ("workflow retry {id}x", "workflows retry {id}x"),
        ("event delivery-1", "events show delivery-1"),
        ("approval {id}", "approvals show {id}"),
        ("approve {id}x", "approvals approve {id}x"),
        ("reject {id}x --reason no", "approvals reject {id}x --reason no"),
        ("workflows --all", "workflows list --built-in"),
        ("approvals --list --role maintainer", "approvals list --role maintainer"),
    ],
)
def test_a_short_form_does_what_the_whole_one_does(folder: Path, short: str, whole: str) -> None:
    name = "issue-triage:octo/repo#3"
    one, other = (call(*(word.format(id=name) for word in form.split())) for form in (short, whole))
    assert (one.exit_code, one.stdout, one.stderr) == (other.exit_code, other.stdout, other.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workflows", "lst"], "did you mean `mesh workflows list`?"),
        (["workflows", "order:1"], "`mesh workflows show order:1`"),
        (["topics", "x9"], "`mesh topics --help` lists what there is"),
        (["workflws"], "did you mean `mesh workflows`?"),
    ],
)
def test_an_unknown_verb_is_answered_with_a_near_one(words: list[str], said: str) -> None:
    result = call(*words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


# Help ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_and_verb_has_help_and_a_sentence_for_the_list(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: mesh {' '.join(words)} ")
    short = EVERY[words].short_help
    assert short
    assert short.endswith(".")
    assert all(option.help for option in EVERY[words].params if isinstance(option, click.Option) and not option.hidden)


def test_the_list_of_commands_has_every_command_once() -> None:
    shown = [line.split()[0] for line in call("--help").stdout.splitlines() if line.startswith("  ")]
    assert all(shown.count(name) == 1 for name in {**COMMANDS, **SHORT_FORMS}), shown


# Mistakes on the command line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["--nothing"],
        ["workflows", "--nothing"],
        ["workflows", "nothing"],
        ["workflows", "list", "--limit", "many"],
        ["workflows", "show"],
        ["workflow", "show"],
        ["workflows", "cancel", "x"],
        ["approve"],
        ["approvals", "reject", "x"],
        ["approvals", "answer"],
        ["approve", "x", "--timeout", "nan"],
        ["run", "r", "--wait", "--timeout", "inf"],
        ["workflows", "retry", "x", "--timeout", "-1"],
        ["workflows", "list", "--after", "nonsense"],
        ["publish"],
        ["completion", "tcsh"],
        ["router", "--nothing"],
        ["topics", "plan", "--routes", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_of_json_where_json_was_asked_for(folder: Path, arguments: list[str]) -> None:
    result = call(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    [line] = result.stderr.splitlines()
    error = json.loads(line)["error"]
    assert error.keys() == {"kind", "message", "exit_code"}
    assert (bool(error["message"]), error["exit_code"]) == (True, 2)
    people = call(*arguments)
    assert people.exit_code == 2
    assert "{" not in people.stderr.partition(":")[0]


# Completion ---------------------------------------------------------------------------------------


def completed(words: str) -> set[str]:
    """What a shell is offered for the last of these words."""
    _, *whole, begun = words.split(" ")
    return {offer.value for offer in ShellComplete(mesh, {}, "mesh", "_MESH_COMPLETE").get_completions(whole, begun)}


def test_commands_verbs_and_options_are_completed() -> None:
    assert completed("mesh work") == {"workflows", "workflow"}
    assert completed("mesh workflows ") == {
        *("list", "show", "cancel", "retry", "skip", "fail"),
        *("complete", "pause", "resume", "fork", "migrate", "erase"),
    }
    assert completed("mesh approvals --rol") == {"--role"}
    assert completed("mesh approvals approve --pay") == {"--payload"}
    assert completed("mesh workflows --status inc") == {"incident"}
    assert completed("mesh workflows list --status inc") == {"incident"}
    assert completed("mesh completion ") == {"bash", "zsh", "fish"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_the_command(shell: str) -> None:
    result = call("completion", shell)
    assert result.exit_code == 0
    assert f"_MESH_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    (tmp_path / "mesh").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "from mesh.cli.app import mesh; mesh(prog_name=\'mesh\')" "$@"\n'
    )
    (tmp_path / "mesh").chmod(0o755)
    (tmp_path / "mesh.bash").write_text(call("completion", "bash").stdout)
    code = (
        'source mesh.bash; COMP_WORDS=(mesh approvals re); COMP_CWORD=2; _mesh_completion mesh; echo "${COMPREPLY[@]}"'
    )
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", code], check=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["reassign", "reject", "republish"], done.stderr
