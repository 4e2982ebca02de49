"""The reply to an issue, composed of what it says, what it lacks and what it resembles.

Owns the wording. What an author wrote is quoted so that it stays text: it pings nobody, links
nothing and closes nothing. Pure; called by the drafter.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .anatomy import Anatomy, anatomy
from .models import DraftRequest, Match, Reply, Triage

_LIKELY_SAME = 0.6  # from this score on, the best match is called the same issue
_LONGEST_QUOTE = 90
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~])")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}(?:\[bot\])?\Z")
# the classifier guesses this from the text; the finder's matches decide
_NEVER_A_LABEL = frozenset({"duplicate-suspect"})


class _Need(NamedTuple):
    """Something a maintainer would ask for.

    `applies`: whether this kind of issue should have it and the text lacks it.
    """

    ask: str
    applies: Callable[[Anatomy, Triage], bool]


def _is_fault(triage: Triage) -> bool:
    return triage.kind == "bug" and "security" not in triage.labels


_NEEDS = (
    _Need(
        "**The version** you run (and the last one that worked, if there was one).",
        lambda parts, triage: _is_fault(triage) and not parts.has_version,
    ),
    _Need(
        "**Where it runs**: operating system, architecture, and whether it is in a container.",
        lambda parts, triage: _is_fault(triage) and not parts.has_environment,
    ),
    _Need(
        "**Steps to reproduce**, from a clean start if possible, with the exact commands or a small example.",
        lambda parts, triage: _is_fault(triage) and not parts.has_steps,
    ),
    _Need(
        "**What you expected**, and what happened in its place.",
        lambda parts, triage: _is_fault(triage) and not parts.has_expected and not parts.has_trace,
    ),
    _Need(
        "**The whole error output or log** around the failure, as text in a code block. Please take out passwords and tokens first.",
        lambda parts, triage: _is_fault(triage) and not (parts.has_trace or parts.has_log or parts.exceptions),
    ),
    _Need(
        "**Figures**: how long it takes or how much it uses, on how much data, and what you measured before.",
        lambda parts, triage: "performance" in triage.labels and not parts.has_figures,
    ),
    _Need(
        "**The log of the failing build**, or a link to the run.",
        lambda parts, triage: (
            "build/ci" in triage.labels and not (parts.has_log or parts.has_trace or parts.code.strip())
        ),
    ),
    _Need(
        "**What you want to do with it**: the situation in which you need it, and what you do today.",
        lambda parts, triage: triage.kind == "feature" and parts.prose_words < 40,  # noqa: PLR2004 - a few sentences
    ),
    _Need(
        "**What you tried so far**, with the command or configuration that you have.",
        lambda parts, triage: triage.kind == "question" and not parts.code.strip() and parts.prose_words < 60,  # noqa: PLR2004 - a paragraph
    ),
    _Need(
        "**Which page or file** it is about, and what it should say.",
        lambda parts, triage: triage.kind == "documentation" and parts.prose_words < 12,  # noqa: PLR2004 - a sentence
    ),
    _Need(
        "**What happens**, in a sentence or two: what you did, what you saw, and what you expected to see.",
        lambda _, triage: triage.kind == "unclear",
    ),
)


def compose(request: DraftRequest) -> Reply:
    """Write the reply. The same request always gives the same reply."""
    parts = anatomy(request.issue)
    matches = [match for match in request.duplicates.matches if match.number != request.issue.number]
    asks = [need.ask for need in _NEEDS if need.applies(parts, request.triage)]
    paragraphs = [
        _opening(request, parts),
        *_security(request.triage),
        *_about_duplicates(matches),
        *_asking(asks),
        _closing(request.triage, asks),
    ]
    return Reply(body="\n\n".join(paragraphs), labels=_labels(request.triage, matches, asks))


def _opening(request: DraftRequest, parts: Anatomy) -> str:
    login = request.issue.user.login if request.issue.user else ""
    thanks = f"Thanks for the report, @{login}." if _LOGIN.match(login) else "Thanks for the report."
    quoted = f"“{_as_text(request.issue.title)}”"
    match request.triage.kind:
        case "bug":
            return f"{thanks} We read {quoted} as a {_fault(request.triage)}{_seen(parts)}."
        case "feature":
            return f"{thanks.replace('report', 'suggestion')} We read {quoted} as a request for something new."
        case "question":
            return (
                f"{thanks.replace('report', 'question')} We read {quoted} as a question about how to use the project."
            )
        case "documentation":
            return f"{thanks} We read {quoted} as a correction to the documentation."
        case "unclear":
            return f"{thanks} From {quoted} we could not yet tell what is going on, so we need your help."


def _fault(triage: Triage) -> str:
    for label, name in (
        ("security", "security problem"),
        ("regression", "regression"),
        ("crash", "crash"),
        ("performance", "performance problem"),
        ("build/ci", "build problem"),
    ):
        if label in triage.labels:
            return f"serious {name}" if triage.severity == "high" else name
    return "serious fault" if triage.severity == "high" else "fault"


def _seen(parts: Anatomy) -> str:
    """The evidence that was understood, so that the author need not repeat it."""
    if parts.exceptions:
        return f", ending in `{parts.exceptions[0]}`"
    if parts.has_trace:
        return ", with a stack trace"
    if parts.has_steps:
        return ", with steps to reproduce it"
    return ""


def _security(triage: Triage) -> Iterator[str]:
    if "security" in triage.labels:
        yield (
            "Since this may touch security, please put no working exploit, secret or customer's data into this public issue. If you have "
            "such details, send them by the way that the repository's security policy names (the *Security* tab)."
        )


def _about_duplicates(matches: list[Match]) -> Iterator[str]:
    if not matches:
        return
    first = matches[0]
    if first.score >= _LIKELY_SAME:
        lead = (
            f"This looks the same as #{first.number}. Please have a look there; if it is, we will go on in one place:"
        )
    else:
        lead = "These issues read alike. Do they describe what you see?"
    yield "\n".join([lead, "", *(_link(match) for match in matches)])


def _link(match: Match) -> str:
    return f"- #{match.number} {_as_text(match.title)} ({match.score:.0%} alike)"


def _asking(asks: list[str]) -> Iterator[str]:
    if asks:
        yield "\n".join(["To go on we need:", "", *(f"- {ask}" for ask in asks)])


def _closing(triage: Triage, asks: list[str]) -> str:
    if asks:
        return "You can edit the issue or answer here; we look at it again when you do."
    if triage.severity == "high":
        return "Nothing is missing to begin. A maintainer looks at this first."
    return "Nothing is missing to begin. A maintainer will take it from here."


def _labels(triage: Triage, matches: list[Match], asks: list[str]) -> list[str]:
    labels = [label for label in triage.labels if label not in _NEVER_A_LABEL]
    if triage.severity == "high":
        labels.append("severity: high")
    if matches and matches[0].score >= _LIKELY_SAME:
        labels.append("possible duplicate")
    if asks:
        labels.append("needs-info")
    return list(dict.fromkeys(labels))


def _as_text(written: str) -> str:
    """One line of somebody's text that Markdown shows exactly as it is.

    It has no mention, link, formatting or markup.
    """
    line = " ".join(written.split())
    if len(line) > _LONGEST_QUOTE:
        line = line[: _LONGEST_QUOTE - 1].rstrip() + "…"
    return _MARKDOWN.sub(r"\\\1", line).replace("@", "@\u200b").replace("://", ":\u200b//")
