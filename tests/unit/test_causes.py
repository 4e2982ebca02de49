"""Messages that differ in ids, numbers, quoted values, times and paths alone have one cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.inspection.causes import MAX_PATTERN, Cause, pattern_of


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("", ""),
        ("OSError: disk full", "OSError: disk full"),
        ("HTTP 503 from upstream", "HTTP … from upstream"),
        ("timeout: no result after 30s (attempt 3 of 3)", "timeout: no result after … (attempt … of …)"),
        ("Down: order 4711 of 'ACME Ltd.' is late", "Down: order … of … is late"),
        ('invalid value "a \\"b\\" c", expected `int`', "invalid value …, expected …"),
        ("it can't be sent, the agent's queue isn't there", "it can't be sent, the agent's queue isn't there"),
        ("no such customer: cus_9f3Kd2, tried twice", "no such customer: …, tried twice"),
        ("id=17, name=bo, sum=-3.50", "id=…, name=bo, sum=…"),
        ("trace 0af7651916cd43dd8448eb211c80319c ended", "trace … ended"),
        ("commit deadbeef is gone, the facade stays", "commit … is gone, the facade stays"),
        ("at 2026-11-30T02:15:00.123+00:00 it failed", "at … it failed"),
        ("at 2026-11-30 02:15:00 it failed", "at … it failed"),
        ("refused by 10.0.0.7:9092", "refused by …"),
        ("can't open /var/lib/x/report.pdf.", "can't open …."),
        (r"can't open C:\data\in.txt, or D:\data\in.txt", "can't open …, or …"),
        ("can't open ./in/a.txt or data/in/b.txt", "can't open … or …"),
        ("GET https://api.example.org/orders?id=a failed (see http://x.org/a).", "GET … failed (see …)."),
        ("no rights for ana@example.org", "no rights for …"),
        ("steps.draft.total is missing and/or null", "steps.draft.total is missing and/or null"),
        ("one of [1, 2, 3], 1,234.5 in all", "one of […], … in all"),
        ("first line\n\tsecond   line", "first line second line"),
        ("a 'quote that does not end", "a 'quote that does not end"),
        ("orders:4711 was not found", "orders:… was not found"),
    ],
)
def test_variable_parts_are_taken_out(message: str, pattern: str) -> None:
    assert pattern_of(message) == pattern


def test_the_workflows_own_id_is_taken_out_whatever_it_looks_like() -> None:
    assert pattern_of("orders:acme waits", workflow_id="orders:acme") == "… waits"


def test_a_long_message_is_cut_off() -> None:
    assert len(pattern_of("word " * 100_000)) == MAX_PATTERN


_NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.integers(0, 10**9).map("{:,}".format),
)
_QUOTED = st.text(st.characters(codec="utf-8", exclude_characters="'\"`\\")).flatmap(
    lambda text: st.sampled_from([f"'{text}'", f'"{text}"', f"`{text}`"])
)
_WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
_IDS = st.one_of(
    st.uuids().map(str),
    st.builds("{}-{}".format, _WORD, st.integers(0)),
    st.builds("{}_{}{}".format, _WORD, st.integers(0), _WORD),
    st.text("0123456789abcdef", min_size=8, max_size=64),
    st.text("0123456789ABCDEF", min_size=8, max_size=64),
    st.emails(domains=st.just("example.org")).filter(lambda text: not set(text) & set("'`{}|=/")),
)
_TIMES = st.datetimes().flatmap(
    lambda at: st.sampled_from([at.isoformat(), at.isoformat() + "Z", str(at), str(at.time()), str(at.date())])
)
_PATHS = st.lists(_WORD, min_size=2, max_size=4).flatmap(
    lambda parts: st.sampled_from(
        [
            "/" + "/".join(parts),
            "./" + "/".join(parts),
            "/".join(parts) + ".txt",
            "C:\\" + "\\".join(parts),
            "https://example.org/" + "/".join(parts),
        ]
    )
)
VARIABLE = st.one_of(_NUMBERS, _QUOTED, _IDS, _TIMES, _PATHS)
CONSTANT = st.text("abcdeghijklmnopqrstuvwxyz", min_size=2, max_size=10).filter(
    lambda word: not set(word) <= set("abcde")
)
GLUE = st.sampled_from(["{} {}", "{}: {}", "{}, {}", "{} ({})", "{}={}", "{} [{}]", "{}; {}."])


@st.composite
def alike(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """Two messages that differ in their variable parts alone, and the words that they share."""
    one = other = draw(CONSTANT)
    words = [one]
    for _ in range(draw(st.integers(1, 4))):
        glue, word = draw(GLUE), draw(CONSTANT)
        one, other = (f"{glue.format(text, draw(VARIABLE))} {word}" for text in (one, other))
        words.append(word)
    return one, other, words


@given(alike())
def test_messages_that_differ_in_variable_parts_alone_have_one_cause(pair: tuple[str, str, list[str]]) -> None:
    one, other, _ = pair
    assert pattern_of(one) == pattern_of(other)


@given(alike(), CONSTANT)
def test_messages_that_differ_in_a_word_do_not(pair: tuple[str, str, list[str]], word: str) -> None:
    one, _, words = pair
    pattern = pattern_of(one)
    assert [part for part in words if part not in pattern] == [] or len(pattern) == MAX_PATTERN
    assert pattern_of(f"{word}. {one}") != pattern


@given(st.text())
def test_nothing_is_taken_out_of_a_pattern_again(text: str) -> None:
    assert len(pattern_of(text)) <= MAX_PATTERN
    once = pattern_of(text)
    assert pattern_of(once) == once


def test_a_cause_has_the_same_id_in_every_mesh() -> None:
    cause = Cause("exhausted", "orders", "charge", "payments", "1.4.2", "Down: no answer from …")
    assert cause.id == "32be876f3b"
    assert cause._replace(agent_version="1.4.3").id != cause.id
