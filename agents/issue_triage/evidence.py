"""The words and the structure that are evidence for a label, each with its weight.

This is the classifier's whole knowledge, as a table. Owns the table and its matching. A weight is
in log-odds: 1 makes a label 2.7 times as likely. The weights were set by hand, and the labelled
issues of the tests hold them in place. A match that is negated in its own clause ("no crash",
"isn't a bug") counts a little against its label.
"""

import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from .anatomy import Anatomy

Kind = Literal["bug", "feature", "question", "documentation"]
Label = Literal[
    "bug",
    "feature",
    "question",
    "documentation",
    "performance",
    "security",
    "build/ci",
    "crash",
    "regression",
    "duplicate-suspect",
    "high",
    "low",
]
# each issue has exactly one of these kinds
KINDS: tuple[Kind, ...] = ("bug", "feature", "question", "documentation")
TOPICS: tuple[Label, ...] = ("performance", "security", "build/ci", "crash", "regression", "duplicate-suspect")

_TITLE_FACTOR = 1.6
_AGAIN = 0.35  # how much the logarithm of further hits adds
_MAX_HITS = 4
_NEGATED = -0.3
_QUOTE_LENGTH = 50

_NEGATION = re.compile(
    r"\b(?:no|not|never|without|nothing|neither|nor|hardly|\w{2,8}n't|cannot)\b(?:\s+\S+){0,3}\s+\Z", re.IGNORECASE
)
_CLAUSE_END = re.compile(r"[.,;:!?\n]|\bbut\b|\bhowever\b|\balthough\b", re.IGNORECASE)


class _Rule(NamedTuple):
    label: Label
    weight: float
    pattern: re.Pattern[str]
    negatable: bool = True
    title_only: bool = False


class Evidence(NamedTuple):
    """One reason for (or, below 0, against) a label.

    `quote` is the text's own words, or what was seen in its structure.
    """

    label: Label
    weight: float
    quote: str
    in_title: bool


def _rule(label: Label, weight: float, pattern: str, *, negatable: bool = True, title_only: bool = False) -> _Rule:
    return _Rule(label, weight, re.compile(pattern, re.IGNORECASE), negatable, title_only)


_RULES = (
    _rule("bug", 1.6, r"\bbugs?\b|\bbuggy\b|\bdefect\b"),
    _rule("bug", 1.5, r"\bcrash(?:es|ed|ing)?\b|\bsegfaults?\b|\bpanic(?:s|ked)?\b|\bcore dump(?:ed)?\b"),
    _rule("bug", 1.2, r"\bfail(?:s|ed|ing|ures?)?\b|\bbroken\b|\bbreaks?\b|\bbroke\b"),
    _rule(
        "bug",
        1.3,
        r"\b(?:does|do|did|is|are|was|will)(?: not|n't)(?: \w+)? (?:work|start|load|open|run|respond|show|save|connect|sync|appear|match|return|compile|build|update|render)\w*",
        negatable=False,
    ),
    _rule(
        "bug",
        1.0,
        r"\b(?:no longer|stopped|stops) (?:work|respond|sync|load)?\w*|\bwon't \w+|\bcan(?:no|')t (?:log|open|start|connect|save|install|build|run|upload|find)\b",
        negatable=False,
    ),
    _rule(
        "bug",
        1.1,
        r"\bwrong(?:ly)?\b|\btwice\b|\boff by one\b|\bincorrect(?:ly)?\b|\bunexpected(?:ly)?\b|\bgarbled\b|\bmangled\b",
    ),
    _rule("bug", 0.9, r"\berrors?\b|\bERR!|\bexceptions?\b|\bstack ?trace\b|\btraceback\b"),
    _rule("bug", 1.2, r"\bhangs?\b|\bhung\b|\bfreezes?\b|\bfrozen\b|\bstuck\b|\bdeadlocks?\b|\binfinite loop\b"),
    _rule(
        "bug",
        1.2,
        r"\bcorrupt(?:s|ed|ion)?\b|\blos(?:t|es|ing) (?:\w+ ){0,2}(?:data|files?|changes|rows|messages|records)\b|\bdata loss\b|\bdisappear(?:s|ed)?\b|\boverwrit(?:es|ten)\b",
    ),
    _rule("bug", 0.8, r"\binstead of\b|\bshould have\b|\bexpected\b|\bactual (?:behaviou?r|result)\b"),
    _rule(
        "bug",
        1.3,
        r"\bregress(?:ion|ed)\b|\bused to work\b|\bworked (?:fine )?(?:in|on|with|before|until)\b|\b(?:since|after) (?:the )?(?:up(?:grad|dat)(?:e|ing)|updating)\b",
        negatable=False,
    ),
    _rule(
        "bug",
        0.7,
        r"\bignor(?:es|ed)\b|\bduplicated?\b|\bmissing\b|\bunable to\b|\boverlaps?\b|\bleaks?\b|\btimes? out\b|\btimeout\b",
    ),
    _rule("feature", 2.2, r"\bfeature[- ]requests?\b|\benhancement\b|\bRFC\b|\bproposal\b|\bpropose\b"),
    _rule(
        "feature",
        1.8,
        r"\b(?:would|it'd|'d) (?:\w+ )?be (?:\w+ )?(?:nice|great|useful|helpful|good|handy|awesome|convenient|lovely|wonderful|cool)\b",
    ),
    _rule(
        "feature",
        1.5,
        r"\b(?:please|could (?:you|we)|can (?:you|we)|consider) (?:add|adding|support|supporting|allow|provide|implement|have)\w*\b|\badd(?:ing)? (?:an? |the )?(?:native |optional |built-in )?(?:support|option|flag|ability|setting|command|endpoint)\b",
    ),
    _rule(
        "feature",
        1.1,
        r"\bsupport (?:for|of)\b|\bability to\b|\boption (?:to|for)\b|\ballow(?:ing)? (?:users?|me|us|people|one) to\b|\bI wish\b|\bwe'd (?:like|love)\b|\bI'd (?:like|love)\b|\bwish ?list\b",
    ),
    _rule(
        "feature",
        0.9,
        r"\buse[- ]cases?\b|\balternatives? (?:I(?:'ve)?|we|considered)\b|\bas a user\b|\bmotivation\b|\bsuggest(?:ion|ed|ing)?\b",
    ),
    _rule(
        "feature",
        1.5,
        r"^\W*(?:\[?feature\]?\W+)?(?:add|support|allow|provide|implement|introduce|make|let|offer|expose|enable|show|export)\b",
        title_only=True,
    ),
    _rule(
        "feature",
        1.0,
        r"\bsupport\b|\bpossibility to\b|\bnative\b|\bconfigurable\b|\bcustomi[sz]able\b|\bopt[- ]in\b",
        title_only=True,
    ),
    _rule("question", 1.7, r"\bhow (?:do|can|to|should|would|does one|might) ?(?:I|we|one|you)?\b", negatable=False),
    _rule(
        "question",
        1.5,
        r"\bis (?:it|this|there) (?:possible|supported|a way|any way|expected|safe|intended|ok)\b|\bare there any\b|\bis there an?\b",
        negatable=False,
    ),
    _rule(
        "question",
        1.3,
        r"\bwhat(?:'s| is| are)? (?:the )?(?:best|right|recommended|correct|proper|difference|preferred)\b|\bwhich (?:one|version|option|of)\b|\bwhere (?:do|can|should) (?:I|we)\b",
        negatable=False,
    ),
    _rule(
        "question",
        1.4,
        r"\bquestions?\b(?! marks?)|\bwondering\b|\bI wonder\b|\bnot sure (?:how|whether|if|what|which)\b|\bconfus(?:ed|ing)\b|\bcould (?:some|any)(?:one|body)\b|\bcan (?:some|any)(?:one|body)\b|\bdoes any(?:one|body)\b",
        negatable=False,
    ),
    _rule(
        "question",
        0.9,
        r"\bany (?:advice|pointers?|ideas?|help|guidance|hints?)\b|\bclarif(?:y|ication)\b|\bam I (?:missing|doing)\b|\bwhat does\b|\bwhy (?:does|do|is|are)\b",
        negatable=False,
    ),
    _rule("question", 1.1, r"\?\s*\Z", negatable=False, title_only=True),
    _rule(
        "documentation",
        1.7,
        r"\bdocs?\b|\bdocumentation\b|\bdocumented\b|\bdocstrings?\b|\breadme\b|\bman ?page\b|\bchangelog\b",
        negatable=False,
    ),
    _rule(
        "documentation",
        1.9,
        r"\btypos?\b|\bmis-?spell(?:ed|ing)?\b|\bspelling\b|\bgrammar\b|\b(?:dead|broken) links?\b|\b404\b.{0,40}\bdocs?\b",
    ),
    _rule(
        "documentation",
        1.0,
        r"\b(?:tutorial|quick-?start|getting[- ]started|user guide|api reference|wiki|manual)\b|\bthe (?:guide|example|page) (?:says|shows|still|mentions|claims|describes)\b|\bout(?:dated| of date)\b",
    ),
    _rule("performance", 1.7, r"\bslow(?:er|ly|ness|down)?\b|\bperformance\b|\blatency\b|\bthroughput\b|\bperf\b"),
    _rule(
        "performance",
        1.4,
        r"\b(?:high|excessive|100 ?%) (?:cpu|memory|ram)\b|\bmemory (?:usage|consumption|leak|footprint|grows?)\b|\bcpu (?:usage|spikes?|time)\b|\boom\b|\bout of memory\b|\bO\(n(?:\^2|²)\)",
    ),
    _rule(
        "performance",
        1.1,
        r"\btakes? (?:\w+ ){0,4}(?:seconds|minutes|hours|long(?:er)?|forever|ages)\b|\bbenchmarks?\b|\bprofil(?:er|ing)\b|\bprofile shows\b|\bflame ?graph\b|\bfaster\b|\boptimi[sz](?:e|ation)\b|\bquadratic\b",
    ),
    _rule("security", 2.4, r"\bvulnerabilit(?:y|ies)\b|\bCVE-\d{4}-\d+\b|\bsecurity\b|\bexploit(?:s|able|ed)?\b"),
    _rule(
        "security",
        2.2,
        r"\b(?:sql|command|code|header|template|shell) injection\b|\bXSS\b|\bCSRF\b|\bSSRF\b|\bRCE\b|\bremote code execution\b|\b(?:path|directory) traversal\b|\bprivilege escalation\b|\bauth(?:entication|orization)? bypass\b|\bbypass(?:es|ing)? (?:the )?(?:auth\w*|login|permission\w*|check)\b",
    ),
    _rule(
        "security",
        2.0,
        r"\b(?:leak(?:s|ed|ing)?|expos(?:es|ed|ing)|print(?:s|ed)?|log(?:s|ged|ging)?|world[- ]readable)\b.{0,60}\b(?:token|secret|password|credential|api key|private key)s?\b|\b(?:token|secret|password|credential|api key|private key)s?\b.{0,60}\b(?:leak(?:s|ed|ing)?|expos(?:es|ed)|plain ?text|in the clear|world[- ]readable|is printed|are printed|is logged|are logged)\b|\bunauthori[sz]ed access\b|\banyone can (?:read|write|delete|access)\b",
    ),
    _rule(
        "build/ci",
        1.5,
        r"\b(?:ci|continuous integration|github actions|jenkins|gitlab ci|circleci|travis|azure pipelines)\b|\bworkflow run\b|\bflaky tests?\b",
    ),
    _rule(
        "build/ci",
        1.5,
        r"\b(?:build|compilation|compile|linking|linker|link)(?:s|d)? (?:fails?|failed|failure|errors?|broken|is broken)\b|\bfail(?:s|ed|ing)? to (?:build|compile|link|install)\b|\bcan(?:no|')t (?:build|compile|install)\b|\b(?:does|do)(?:n't| not) (?:build|compile)\b",
        negatable=False,
    ),
    _rule(
        "build/ci",
        1.1,
        r"\b(?:cmake|makefile|bazel|gradle|maven|cargo build|pip install|npm (?:install|ci)|wheels?|dockerfile|undefined reference|packaging|dependency conflict|lock ?file)\b",
    ),
    _rule(
        "crash",
        2.2,
        r"\bcrash(?:es|ed|ing)?\b|\bsegfaults?\b|\bsegmentation fault\b|\bcore dump(?:ed)?\b|\bpanic(?:s|ked)?\b|\bSIG(?:SEGV|ABRT|BUS)\b|\baborts?\b",
    ),
    _rule(
        "crash",
        1.2,
        r"\b(?:uncaught|unhandled) (?:exception|error|rejection)\b|\bexits? (?:immediately|unexpectedly)\b|\bterminates? unexpectedly\b|\btraceback\b",
    ),
    _rule(
        "regression",
        2.3,
        r"\bregress(?:ion|ed)\b|\bused to work\b|\bworked (?:fine )?(?:in|on|with|before|until)\b|\bno longer works?\b|\bbisect(?:ed)?\b",
        negatable=False,
    ),
    _rule(
        "regression",
        1.6,
        r"\b(?:since|after) (?:the )?(?:last |latest |recent )?(?:up(?:grad|dat)(?:e|ing)|update|upgrade)\b|\bsince v?\d+\.\d+",
        negatable=False,
    ),
    _rule(
        "duplicate-suspect",
        2.4,
        r"\b(?:duplicate of|same (?:issue |problem |bug )?as|dupe of|similar to|related to|see also)\b[^\n]{0,40}?#\d+",
    ),
    _rule(
        "high",
        2.6,
        r"\bdata loss\b|\blos(?:t|es|e|ing) (?:\w+ ){0,3}(?:data|files?|rows|messages|records|database|work|commits|photos|documents)\b|\bcorrupt(?:s|ed|ion|ing)?\b|\b(?:deletes?|deleted|wipes?|wiped|erases?|erased|overwrites?|overwritten|overwrote)\b (?:\w+ ){0,4}(?:files?|data|director(?:y|ies)|database|disk|copy|copies|folder)\b",
    ),
    _rule(
        "high",
        2.4,
        r"\bvulnerabilit(?:y|ies)\b|\bCVE-\d{4}-\d+|\b(?:sql|command|code|shell) injection\b|\bremote code execution\b|\b(?:path|directory) traversal\b|\bprivilege escalation\b|\bauth\w* bypass\b|\bunauthori[sz]ed access\b|\banyone can (?:read|write|delete|access)\b",
    ),
    _rule(
        "high",
        2.2,
        r"\b(?:token|secret|password|credential|api key|private key)s?\b.{0,60}\b(?:exposed|leaks?|leaked|plain ?text|in the clear|world[- ]readable)\b",
    ),
    _rule(
        "high",
        2.0,
        r"\b(?:production|prod)\b.{0,40}\b(?:down|outage|broken|unusable|affected|incident)\b|\boutage\b|\ball (?:our )?(?:users|customers|clients)\b|\bcompletely (?:broken|unusable)\b",
    ),
    _rule("high", 1.4, r"\b(?:crash(?:es|ed|ing)?|segfaults?|panics?|deadlocks?|core dump(?:ed)?)\b"),
    _rule(
        "high",
        1.2,
        r"\bcan(?:no|')t (?:start|log ?in|boot|use)\b|\bat start-?up\b|\bon (?:start-?up|launch)\b|\bevery (?:time|start|user)\b|\bout of memory\b|\boom[- ]?kill\w*\b",
        negatable=False,
    ),
    _rule(
        "high",
        1.1,
        r"\burgent(?:ly)?\b|\bcritical\b|\bblocker\b|\bblocking (?:us|our|the) \w+\b|\bsev(?:erity)?[- ]?[01]\b|\bP0\b",
    ),
    _rule(
        "low",
        1.6,
        r"\btypos?\b|\bcosmetic\b|\bminor\b|\bnit(?:pick)?\b|\btrivial\b|\blow priority\b|\bnice to have\b|\bnot urgent\b|\bsmall thing\b",
        negatable=False,
    ),
    _rule("low", 0.8, r"\bwork-?around\b"),
)


def gather(parts: Anatomy) -> list[Evidence]:
    """All the evidence in an issue, in the table's order."""
    found = list(_of_structure(parts))
    for rule in _RULES:
        found.extend(_of_words(rule, parts.title, in_title=True))
        if not rule.title_only:
            found.extend(_of_words(rule, parts.prose, in_title=False))
    return found


def _of_words(rule: _Rule, text: str, *, in_title: bool) -> Iterator[Evidence]:
    quote, hits, negated = "", 0, 0
    for match in rule.pattern.finditer(text):
        if rule.negatable and _is_negated(text, match.start()):
            negated += 1
        else:
            hits += 1
            quote = quote or match[0]
        if _MAX_HITS in {hits, negated}:
            break
    factor = _TITLE_FACTOR if in_title else 1.0
    if hits:
        weight = rule.weight * factor * (1 + _AGAIN * math.log(hits))
        yield Evidence(rule.label, weight, " ".join(quote.split())[:_QUOTE_LENGTH], in_title)
    elif negated:
        yield Evidence(rule.label, rule.weight * factor * _NEGATED, "said not to be so", in_title)


def _is_negated(text: str, start: int) -> bool:
    """Whether there is a negation at most three words before `start`, in the same clause."""
    before = text[max(0, start - 60) : start]
    clause = _CLAUSE_END.split(before)[-1]
    return _NEGATION.search(clause) is not None


def _of_structure(parts: Anatomy) -> Iterator[Evidence]:
    if parts.has_trace:
        yield Evidence("bug", 2.0, "a stack trace", in_title=False)
        yield Evidence("crash", 1.2, "a stack trace", in_title=False)
    if parts.exceptions:
        yield Evidence("bug", 1.0, parts.exceptions[0], in_title=False)
    if parts.has_log:
        yield Evidence("bug", 0.7, "log lines", in_title=False)
    if parts.has_steps:
        yield Evidence("bug", 1.1, "steps to reproduce", in_title=False)
    if parts.has_version and parts.has_environment:
        yield Evidence("bug", 0.5, "a version and an environment", in_title=False)
    if parts.has_figures:
        yield Evidence("performance", 0.6, "figures", in_title=False)
