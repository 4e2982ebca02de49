"""What an issue's text is made of: prose, code, headings, a stack trace, a version.

Owns the reading of GitHub's Markdown as far as triage needs it. It must not know what the text
means. Called by the classifier, the duplicate finder and the drafter. Every pattern runs in time
linear in the text, and no more than `MAX_CHARACTERS` are read.
"""

import re
from dataclasses import dataclass

from .models import Issue

MAX_CHARACTERS = 48_000  # GitHub takes 65,536; the middle of a longer text is almost always a log

_APOSTROPHE = "\u2019"  # the typographic one; patterns and word lists use the plain one
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)  # an issue form's instructions
_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]{0,200})\]\([^)\s]{1,500}\)")
_URL = re.compile(r"https?://[^\s<>)\"']+")
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
_BULLET = re.compile(r"^[ \t]*(?:\d{1,3}[.)]|[-*+])[ \t]+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*\d{1,3}[.)][ \t]+\S", re.MULTILINE)
_TRACE = re.compile(
    r"""Traceback\ \(most\ recent\ call\ last\)
    | ^[ \t]*File\ "[^"\n]{1,300}",\ line\ \d+
    | ^[ \t]*at\ [\w$.<>/\ ]{1,200}\([^()\n]{0,200}:\d+(?::\d+)?\)     # Java, JavaScript
    | ^[ \t]*at\ [^\s()]{1,300}:\d+:\d+$                                # JavaScript without a function
    | thread\ '[^'\n]{0,80}'(?:\ \(\d+\))?\ panicked\ at             # Rust
    | ^goroutine\ \d+\ \[                                            # Go
    | ^panic:[ ]
    | ^[ \t]*\#\d+\s+0x[0-9a-f]+                                        # gdb, sanitizers
    | Segmentation\ fault | SIGSEGV | core\ dumped
    | ^[ \t]*from\ [^\s:]{1,300}:\d+:in\ [`'] """,
    re.MULTILINE | re.VERBOSE,
)
_EXCEPTION = re.compile(r"\b([A-Z]\w{2,60}(?:Error|Exception|Fault|Panic))\b")
_LOG_LINE = re.compile(
    r"^\W{0,3}(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\[?(?:ERROR|WARN(?:ING)?|FATAL|INFO|DEBUG)\b)", re.MULTILINE
)
_VERSION = re.compile(
    r"\bv?\d{1,4}\.\d{1,4}\.\d{1,6}(?:[-.+]?\w{1,20})?\b|\bversions?\b[^\n]{0,20}?\d+(?:\.\d+)?|\bv\d{1,3}(?:\.\d{1,3})?\b",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"\b(?:ubuntu|debian|fedora|arch linux|alpine|rhel|centos|linux|mac ?os|os ?x|darwin|windows|wsl2?|android|ios|docker|kubernetes|k8s"
    r"|chrome|firefox|safari|python ?\d|node(?:\.?js)? ?v?\d|java ?\d|jdk|rust ?\d|go ?1\.\d+|arm64|aarch64|x86_64|amd64)\b",
    re.IGNORECASE,
)
_STEPS = re.compile(
    r"\b(?:steps? to reproduce|to reproduce|reproduction|how to reproduce|repro(?:duction)? steps|minimal example|mwe)\b",
    re.IGNORECASE,
)
_EXPECTED = re.compile(
    r"\b(?:expected|i(?:'d| would) expect|should have|supposed to|instead of|but (?:it|i|the|we)\b)", re.IGNORECASE
)
_FIGURE = re.compile(
    r"\b\d+(?:[.,]\d+)?\s?(?:ms|s|sec(?:ond)?s?|min(?:ute)?s?|h(?:our)?s?|[kmg]i?b(?:/s)?|%|x|times|req/s|rps|fps)(?![\w])",
    re.IGNORECASE,
)
_ENGLISH = frozenset(  # function words
    """a about after all also am an and any are as at be because been before but by can cannot could did do does doesn't don't every
    for from get had has have how i i'd i'm if in instead into is it it's its just like me my no not now of on once one only or our
    out please same should since so some such than that the their them then there these they this to up use using was we were what
    when where which while why will with without would you your""".split()  # noqa: SIM905 - words read best as words
)


def words(text: str) -> list[str]:
    """The words of a text, folded: letters and digits of any script, with an apostrophe inside."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """An issue's parts.

    `prose` is the body without code, instructions, addresses and quotations.
    """

    title: str
    prose: str
    code: str
    prose_words: int
    english: float  # the share of English function words among the words, in [0, 1]
    exceptions: tuple[str, ...]
    has_trace: bool
    has_log: bool
    has_version: bool
    has_environment: bool
    has_steps: bool
    has_expected: bool
    has_figures: bool


def anatomy(issue: Issue) -> Anatomy:
    """Take an issue apart. Never raises, whatever the text."""
    title = issue.title[:1_000].replace(_APOSTROPHE, "'")
    body = _clip((issue.body or "").replace("\r\n", "\n").replace("\r", "\n").replace(_APOSTROPHE, "'"))
    text, code = _split_code(_COMMENT.sub(" ", body))
    prose = _URL.sub(" ", _LINK.sub(r"\1", _without_quotations(text)))
    everything = f"{title}\n{text}\n{code}"
    found = words(f"{title} {prose}")
    return Anatomy(
        title=title,
        prose=prose,
        code=code,
        prose_words=len(found),
        english=sum(word in _ENGLISH for word in found) / len(found) if found else 0.0,
        exceptions=tuple(dict.fromkeys(_EXCEPTION.findall(everything)))[:10],
        has_trace=_TRACE.search(everything) is not None,
        has_log=len(_LOG_LINE.findall(everything)) > 1,
        has_version=_VERSION.search(everything) is not None,
        has_environment=_ENVIRONMENT.search(everything) is not None,
        has_steps=_has_steps(text, code),
        has_expected=_EXPECTED.search(f"{title}\n{text}") is not None,
        has_figures=len(_FIGURE.findall(f"{title}\n{text}\n{code}")) > 1,
    )


def _clip(body: str) -> str:
    if len(body) <= MAX_CHARACTERS:
        return body
    tail = MAX_CHARACTERS // 4
    return body[: MAX_CHARACTERS - tail] + "\n" + body[-tail:]


def _split_code(body: str) -> tuple[str, str]:
    """Text outside and inside of fences and indented blocks.

    A fence that is never closed goes to the end, as on GitHub.
    """
    text: list[str] = []
    code: list[str] = []
    fence = ""
    after_blank = True
    for line in body.split("\n"):
        mark = _FENCE.match(line)
        if mark is not None and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif fence or (after_blank and line.startswith(("    ", "\t")) and not _BULLET.match(line)):
            code.append(line)
            continue
        else:
            text.append(line)
        after_blank = not line.strip()
    return "\n".join(text), "\n".join(code)


def _without_quotations(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(">"))


def _has_steps(text: str, code: str) -> bool:
    """Whether there are steps: they are numbered, or announced and followed by something.

    The empty heading of an issue form does not count.
    """
    if len(_NUMBERED.findall(text)) > 1:
        return True
    announced = _STEPS.search(text)
    if announced is None:
        return False
    after = text[announced.end() :].split("\n#", 1)[0]
    return bool(code.strip()) or len(words(after)) > 5  # noqa: PLR2004 - more than a "see above"
