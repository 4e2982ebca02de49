"""Links that open one approval: what they are bound to, and that nothing else is taken for one."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec.links import LINK, Links, Pass, approval_ref
from mesh.errors import SettingsInvalid
from mesh.settings import load_settings
from mesh.wiring.links import links_of

URL, SECRET, OTHER = "https://mesh.example.org", "s" * 32, "t" * 40
ID = "pay:it's 4711/4f2a/review"
NOW_MS = 1_764_500_000_000
LINKS = Links(URL, [SECRET], life_ms=60_000)
texts = st.text(max_size=40)


def token_of(links: Links, approval_id: str = ID, person: str = "ana@example.org", notice: str = "asked/1") -> str:
    url = links.make(approval_id, person=person, notice=notice, now_ms=NOW_MS)
    assert urlsplit(url).path == f"/a/{approval_ref(approval_id)}"
    [token] = parse_qs(urlsplit(url).query)[LINK]
    return token


TOKEN = token_of(LINKS)


@given(approval_id=texts, person=texts, notice=texts)
def test_a_link_says_who_answers_what_until_when(approval_id: str, person: str, notice: str) -> None:
    token = token_of(LINKS, approval_id, person, notice)
    found = LINKS.read(approval_ref(approval_id), token)
    assert found == Pass(approval_ref(approval_id), person, notice, NOW_MS + 60_000)
    assert found is not None
    assert found.is_of(approval_id)


@given(at=st.integers(0, len(TOKEN) - 1), put=st.characters(), cut=st.integers(0, 3))
def test_a_token_that_was_changed_anywhere_is_none(at: int, put: str, cut: int) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + cut :]
    assert changed == TOKEN or LINKS.read(approval_ref(ID), changed) is None


@given(token=st.text() | st.from_regex(r"\A[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{43}\Z"))
def test_a_token_that_nobody_has_made_is_none(token: str) -> None:
    assert LINKS.read(approval_ref(ID), token) is None


def test_a_link_is_for_its_approval_at_its_console_alone() -> None:
    assert LINKS.read(approval_ref("pay:4712/4f2a/review"), TOKEN) is None
    staging = Links("https://staging.example.org", [SECRET], life_ms=60_000)
    assert staging.read(approval_ref(ID), TOKEN) is None
    assert Links(f"{URL}/", [SECRET], life_ms=1).read(approval_ref(ID), TOKEN) is not None, (
        "a slash is no other console"
    )


def test_secrets_are_rotated_without_a_link_that_does_not_count() -> None:
    ref, both = approval_ref(ID), Links(URL, [OTHER, SECRET], life_ms=60_000)
    assert both.read(ref, TOKEN) is not None
    assert LINKS.read(ref, token_of(both)) is None, "the first one signs"
    assert Links(URL, [OTHER], life_ms=60_000).read(ref, TOKEN) is None


def test_each_notice_of_each_person_has_one_answer_however_often_it_is_sent() -> None:
    said = Pass("ref", "ana", "asked/1", 1)
    assert said.answer_id == said._replace(ends_at_ms=2).answer_id
    others = [said._replace(ref="other"), said._replace(person="ben"), said._replace(notice="asked/2")]
    assert len({one.answer_id for one in (said, *others)}) == 4
    assert said.answer_id.startswith("link-")


@pytest.mark.parametrize("secrets", [[], ["short"], [SECRET, "short"]])
def test_a_weak_secret_is_refused_and_not_shown(secrets: list[str]) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        Links(URL, secrets, life_ms=1)
    assert "short" not in str(refused.value)


# Settings -----------------------------------------------------------------------------------------


def test_both_processes_read_the_secrets_of_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "links").write_text(f"{OTHER}\n{SECRET}\n")
    monkeypatch.setenv("MESH_CONSOLE_URL", URL)
    assert links_of(load_settings()) is None, "they are off"
    monkeypatch.setenv("MESH_CONSOLE_LINK_SECRETS_FILE", str(tmp_path / "links"))
    found = links_of(load_settings(console_link_s=60))
    assert found is not None
    assert found.read(approval_ref(ID), TOKEN) is not None
    assert LINKS.read(approval_ref(ID), token_of(found)) is None


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("", {}, "without MESH_CONSOLE_URL"),
        ("http://mesh.example.org", {}, "must begin with https://"),
        (URL, {"MESH_CONSOLE_LINK_SECRETS_FILE": "/dev/null"}, "are both set"),
    ],
)
def test_links_that_would_be_read_by_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, more: dict[str, str], said: str
) -> None:
    for name, value in {"MESH_CONSOLE_URL": url, "MESH_CONSOLE_LINK_SECRETS": SECRET, **more}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=said) as refused:
        load_settings()
    assert SECRET not in str(refused.value)
