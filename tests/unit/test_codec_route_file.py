"""Route files and the approvers' file: what is read.

If something can't be read, the message names the file and the line.
"""

import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mesh.codec.approvers_file import load_approvers
from mesh.codec.route_file import load_routes
from mesh.codec.yaml_lines import MAX_NODES, read_yaml_text
from mesh.core.route import ApprovalWork
from mesh.errors import RouteInvalid, SettingsInvalid

ISSUE_TRIAGE = """\
route: issue-triage
on: {type: com.github.issues.opened}
key: ${{ event.data.repository.full_name + '#' + event.subject }}
steps:
  classify:   {agent: classifier, input: "${{ event.data.issue }}", timeout: 30s, retry: {attempts: 4, backoff: 1s}}
  duplicates: {agent: duplicate-finder, input: "${{ event.data.issue }}"}
  draft:
    needs: [classify, duplicates]
    agent: drafter
    input: {issue: "${{ event.data.issue }}", triage: "${{ steps.classify }}"}
  review:
    needs: draft
    if: steps.classify.severity == 'high' || steps.classify.confidence < 0.7 || size(steps.duplicates.matches) > 0
    approval: {ask: Post this reply?, payload: "${{ steps.draft }}", role: maintainer, deadline: 24h, on_expiry: reject}
  publish: {needs: review, agent: publisher, input: "${{ steps.review.payload }}"}
"""
SMALL = "route: {}\non: {{type: t}}\nsteps: {{a: {{agent: x, input: 1}}}}\n"


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(*paths: Path) -> list[str]:
    """The lines of the message, without the folders."""
    with pytest.raises(RouteInvalid) as caught:
        load_routes(paths)
    return [line.replace(f"{paths[0].parent}/", "") for line in str(caught.value).splitlines()]


def test_the_issue_triage_route_is_read_from_yaml(tmp_path: Path) -> None:
    file = written(tmp_path, "issue-triage.yaml", ISSUE_TRIAGE)
    [loaded] = load_routes([file])
    route = loaded.route
    assert (loaded.file, loaded.line, route.name) == (file, 1, "issue-triage")
    assert list(route.steps) == ["classify", "duplicates", "draft", "review", "publish"]
    assert route.on is not None
    assert route.on.type == "com.github.issues.opened"
    review = route.steps["review"].work
    assert isinstance(review, ApprovalWork)
    assert (review.payload_from, review.deadline_s) == ("drafter", 86_400)
    assert route.key is not None
    event = {"subject": "12", "data": {"repository": {"full_name": "octo/repo"}}}
    assert route.key.render({"event": event}) == "octo/repo#12"
    steps = {"classify": {"severity": "low", "confidence": 0.9}, "duplicates": {"matches": [{"id": 1}]}}
    condition = route.steps["review"].condition
    assert condition is not None
    assert condition.is_true({"steps": steps})


def test_the_examples_of_the_docs_are_read(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = "".join((docs / page).read_text(encoding="utf-8") for page in ("routes.md", "route-reference.md"))
    first, *others = (part.partition("```")[0] for part in text.split("```yaml\n")[1:])
    assert first == ISSUE_TRIAGE
    for number, block in enumerate(others):
        file = f"example-{number}.yaml"
        if block.startswith("maintainer:"):
            assert load_approvers(written(tmp_path, file, block))["ana@example.org"] >= {"maintainer"}
        else:
            if block.startswith("search:"):  # a key of the route
                whole = HEAD + block + "steps: {a: {value: 1}}\n"
            else:
                whole = block if block.startswith(("route:", "#")) else SKELETON + textwrap.indent(block, "  ")
            assert load_routes([written(tmp_path, file, whole)]), block


HEAD = "route: example\non: {type: t}\nkey: ${{ event.subject }}\n"
SKELETON = f"{HEAD}steps:\n"
"""What is around the steps that a page shows."""


def test_folders_files_and_several_documents_are_read_once_each(tmp_path: Path) -> None:
    folder = tmp_path / "routes"
    folder.mkdir()
    two = written(folder, "b.yml", "---\n" + SMALL.format("z") + "---\n" + SMALL.format("y") + "---\n")
    written(folder, "a.yaml", SMALL.format("x"))
    written(folder, "notes.txt", "no route")
    (folder / "sub.yaml").mkdir()
    loaded = load_routes([folder, two])
    assert [(one.route.name, one.file.name, one.line) for one in loaded] == [
        ("x", "a.yaml", 1),
        ("y", "b.yml", 6),
        ("z", "b.yml", 2),
    ]


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "bad.yaml",
        """\
route: Issue_triage
on: {tpye: com.github.issues.opened, if: "steps.x == 1"}
colour: red
steps:
  classify:   {agent: classifier, input: "${{ evnt.data }}", timeout: 30, retry: {attempts: 0}}
  draft:
    needs:
      - classify
      - duplicats
    agent: drafter
    input:
      issue: ${{ event.data.issue }}
      triage: ${{ steps.publish }}
  review:
    needs: [draft, publish]
    if: >
      steps.classify.severity = 'high'
    approval:
      payload: ${{ steps.draft }}
      role: maintainer
      on_expiry: rejct
  publish: {needs: review, agent: publisher, input: "${{ steps.review.payloud }}"}
  publish: {needs: review}
""",
    )
    assert refused(file) == [
        "bad.yaml:1: route can't be Issue_triage (start with a-z, then a-z, 0-9 and -; at most 63 characters)",
        "bad.yaml:2: steps is not there yet when an event is matched, at column 1 of: steps.x == 1 (read event alone here)",
        "bad.yaml:2: type is missing (the CloudEvents type that starts the route, or schedule: the times that do)",
        "bad.yaml:2: unknown key tpye (did you mean type?)",
        "bad.yaml:3: unknown key colour (there are: budget, closed_retention, keep_events, key, limits, on, on_repeat, output, priority, private, requester, route, search, steps)",
        "bad.yaml:5: step classify: attempts can't be 0 (write a whole number from 1 to 1000)",
        "bad.yaml:5: step classify: timeout can't be 30 (write a number and ms, s, m, h or d, such as 30s or 24h)",
        "bad.yaml:5: step classify: unknown name evnt, at column 5 of: ${{ evnt.data }} (did you mean event?)",
        "bad.yaml:9: step draft: there is no step duplicats to need (there are: classify, publish, review)",
        "bad.yaml:16: step review: unexpected '=' at column 25 of: steps.classify.severity = 'high' (to compare write ==)",
        "bad.yaml:18: step review: ask is missing (the question)",
        "bad.yaml:21: step review: on_expiry can't be rejct (write reject, approve or incident)",
        "bad.yaml:22: step publish: steps need each other: publish -> review -> publish (break the cycle)",
        "bad.yaml:22: step publish: steps.review has no payloud, at column 5 of: ${{ steps.review.payloud }} (did you mean payload?)",
        "bad.yaml:23: the key publish is given twice, first in line 22 (keep one)",
    ]


def test_a_key_that_stands_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    file = written(tmp_path, "r.yaml", SMALL.format("a") + "route: b\n")
    assert refused(file) == ["r.yaml:4: the key route is given twice, first in line 1 (keep one)"]


def test_route_names_are_unique_across_files(tmp_path: Path) -> None:
    one = written(tmp_path, "1.yaml", SMALL.format("a"))
    two = written(tmp_path, "2.yaml", "# again\n" + SMALL.format("a"))
    assert refused(two, one) == ["1.yaml:1: the route a is there already, in 2.yaml:2 (give one another name)"]


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    empty = written(tmp_path, "a.yaml", "# nothing\n")
    (tmp_path / "folder").mkdir()
    lists = written(tmp_path, "b.yaml", "- 1\n")
    assert refused(lists, empty, tmp_path / "c.yaml", tmp_path / "folder") == [
        "a.yaml:1: the file is empty (begin with route: NAME)",
        "b.yaml:1: a route must be a mapping, not a list (begin with route: NAME)",
        "c.yaml: the file can't be read: No such file or directory (is the path right?)",
        "folder: the folder has no route file (*.yaml or *.yml)",
    ]


NO_YAML: list[tuple[str | bytes, str]] = [
    ("", "1: the file is empty (begin with route: NAME)"),
    ("---\n---\n", "1: the file is empty (begin with route: NAME)"),
    ("a: [1\n", "1: the file is not YAML: expected ',' or ']', but got '<stream end>'"),
    ("a: 1\nb: x: y\n", "2: the file is not YAML: mapping values are not allowed here"),
    ("a: 1\n\tb: 1\n", "2: the file is not YAML: found character '\\t' that cannot start any token"),
    ("a: *x\n", "1: the file is not YAML: found undefined alias 'x'"),
    (b"a: \xff\n", "1: the file is not UTF-8: invalid start byte at byte 3"),
    ("[" * 500, "1: the file is not YAML: nested too deep"),
]


@pytest.mark.parametrize(("text", "message"), NO_YAML)
def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refused(written(tmp_path, "r.yaml", text)) == [f"r.yaml:{message}"]


def test_an_unquoted_expression_inside_braces_gets_a_hint(tmp_path: Path) -> None:
    file = written(tmp_path, "r.yaml", "route: a\nsteps:\n  a: {agent: x, input: ${{ event.data }}}\n")
    [line] = refused(file)
    assert line.startswith("r.yaml:3: the file is not YAML: ")
    assert line.endswith(" (put a value with ${{ }} in quotes)")


def test_a_control_character_is_told(tmp_path: Path) -> None:
    [line] = refused(written(tmp_path, "r.yaml", "a: \x01\n"))
    assert line.startswith("r.yaml:1: the file is not YAML: unacceptable character")


NO_JSON: list[tuple[str, str]] = [
    ("output: !thing 1", "4: the tag !thing means nothing here (remove it)"),
    ("output: !!str 1", "4: the tag !!str means nothing here (remove it)"),
    ("output: !!python/object:os.x {}", "4: the tag !!python/object:os.x means nothing here (remove it)"),
    ("output: !<tag:yaml.org,2002:int> '1'", "4: the tag !<tag:yaml.org,2002:int> means nothing here (remove it)"),
    ("output: ! 1", "4: the tag ! means nothing here (remove it)"),
    ("output: &here !!set {a}", "4: the tag !!set means nothing here (remove it)"),
    ("output: [1, {a: !!binary eA==}]", "4: the tag !!binary means nothing here (remove it)"),
    ("output: {!!str a: 1}", "4: the tag !!str means nothing here (remove it)"),
    ("!!str output: 1", "4: the tag !!str means nothing here (remove it)"),
    ("output: &a [*a]", "4: an alias leads into itself (write the part out)"),
    ("output: {[1]: 2}", "4: a key must be a string"),
    ("output: {<<: {a: 1}}", "4: merge keys (<<) are not part of YAML 1.2 (write the keys out)"),
    ("output: .inf", "4: inf is not a JSON number (write it as a string)"),
    ("output: -.INF", "4: -inf is not a JSON number (write it as a string)"),
    ("output: .nan", "4: nan is not a JSON number (write it as a string)"),
    ("output: 18446744073709551616", "4: the number does not fit in 64 bits (write it as a string)"),
]


@pytest.mark.parametrize(("line", "message"), NO_JSON)
def test_what_json_has_not_is_told_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    assert refused(written(tmp_path, "r.yaml", SMALL.format("a") + line)) == [f"r.yaml:{message}"]


def test_aliases_may_not_multiply_without_end(tmp_path: Path) -> None:
    lines = ["output:", "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    [line] = refused(written(tmp_path, "r.yaml", SMALL.format("a") + "\n".join(lines)))
    assert line.endswith(f"more than {MAX_NODES} values (do aliases multiply?)")


def test_scalars_are_read_by_yaml_12s_core_schema(tmp_path: Path) -> None:
    text = (
        "output: [on, yes, 012, 0o17, 0x1F, 1e3, .5, -1, +2, ~, , null, True, 2026-01-02, '1', 1_000, 12:30,"
        f' "a", {"9" * 500}]'
    ).replace(" , ", " ")
    [loaded] = load_routes([written(tmp_path, "r.yaml", SMALL.format("a") + text)])
    assert loaded.route.definition["output"] == [
        "on", "yes", 12, 15, 31, 1000.0, 0.5, -1, 2, None, None, True, "2026-01-02", "1", "1_000", "12:30", "a", "9" * 500
    ]  # fmt: skip


def test_a_yaml_11_directive_changes_nothing(tmp_path: Path) -> None:
    [loaded] = load_routes([written(tmp_path, "r.yaml", "%YAML 1.1\n---\n" + SMALL.format("a") + "output: yes\n")])
    assert loaded.route.definition["output"] == "yes"


def test_aliases_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = "\ufeff" + SMALL.format("a") + "output: [&x {a: 1}, *x]\n"
    [loaded] = load_routes([written(tmp_path, "r.yaml", text)])
    assert loaded.route.definition["output"] == [{"a": 1}, {"a": 1}]


def test_approvers_are_people_with_roles(tmp_path: Path) -> None:
    file = written(
        tmp_path, "approvers.yaml", "maintainer: [ana@example.org, ben@example.org]\nboss: ana@example.org\n"
    )
    assert load_approvers(file) == {
        "ana@example.org": frozenset({"maintainer", "boss"}),
        "ben@example.org": frozenset({"maintainer"}),
    }


@pytest.mark.parametrize("text", ["", "# nobody yet\n", "{}\n", "maintainer: []\n"])
def test_nobody_may_have_a_role(tmp_path: Path, text: str) -> None:
    assert load_approvers(written(tmp_path, "approvers.yaml", text)) == {}


BAD_APPROVERS: list[tuple[str, list[str]]] = [
    ("- ana\n", ["1: the file must map roles to people, not be a list (maintainer: [ana@example.org])"]),
    (
        "boss: 1\nmaintainer: [ana, 2, '', ' x']\n",
        [
            "1: the role boss needs a list of people, not a number (boss: [ana@example.org])",
            "2: the role maintainer names a number (write who answers, as in by)",
            "2: the role maintainer names a string (write who answers, as in by)",
            "2: the role maintainer names nobody (write who answers, as in by)",
        ],
    ),
    ("boss: [ana]\nboss: [ben]\n", ["2: the key boss is given twice, first in line 1 (keep one)"]),
    ("boss: [ana]\n---\nboss: [ben]\n", ["3: the file has more than one document (take out ---)"]),
    ("boss: [ana\n", ["1: the file is not YAML: expected ',' or ']', but got '<stream end>'"]),
]


@pytest.mark.parametrize(("text", "lines"), BAD_APPROVERS)
def test_bad_approvers_are_told_with_their_lines(tmp_path: Path, text: str, lines: list[str]) -> None:
    file = written(tmp_path, "approvers.yaml", text)
    with pytest.raises(SettingsInvalid) as caught:
        load_approvers(file)
    assert str(caught.value).splitlines() == [f"{file}:{line}" for line in lines]


def test_an_approvers_file_that_isnt_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="the file can't be read: No such file"):
        load_approvers(tmp_path / "approvers.yaml")


@pytest.mark.parametrize("head", [">", ">-", ">+", ">2-", "|", "|-", "|+"])
def test_texts_of_several_lines_are_what_yaml_says(head: str) -> None:
    text = f"a: {head}\n  ${{{{ one\n  + two }}}}\n\n    deeper\n   and more\n  back\n\n\nb: 'c\n  d'\n"
    [document], faults = read_yaml_text(text)
    assert (faults, document.value) == ([], YAML(typ="safe", pure=True).load(text))
