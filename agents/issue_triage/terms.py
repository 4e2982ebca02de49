"""An issue as a bag of weighted terms, and how alike two bags are.

Owns what counts as a term: stemmed words of the prose, and exception names and identifiers of the
code. The title's words count more. Pure; called by the duplicate finder's index.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping

from .anatomy import anatomy, words
from .models import Issue

MAX_TERMS = 300  # an issue's most frequent ones; more would only add the noise of logs

_TITLE_FACTOR = 2.0
_CODE_FACTOR = 0.5
# in a small index every term would be rare: it counts as if it held this many more issues
_PRIOR_ISSUES = 40
_COMMON_WORTH = 0.35  # the factor for a word that half of all issues have

_STOP = frozenset(
    """a about after all also am an and any anyone are as at be because been before but by can cannot could did do does doesn't don't
    every for from get gets got had has have hello hi how i i'd i'm i've if in instead into is isn't it it's its just like me my no not
    now of off on once one only or our out over please same should since so some still such than thank thanks that the their them then
    there these they this to too try trying tried up us use used using very was we were what when where which while who why will with
    without won't would you your""".split()  # noqa: SIM905 - words read best as words
)
_COMMON = frozenset(
    """bug error issue problem version fail crash work expect actual behavior behaviour step reproduce run happen file code example
    feature request add support option new need want see make set thing time way user app question help find release update upgrade
    log line output command latest current run linux ubuntu macos windows docker python node""".split()  # noqa: SIM905 - as above
)
_SUFFIXES = (
    "ization",
    "ational",
    "fulness",
    "iveness",
    "ingly",
    "ments",
    "ment",
    "ities",
    "ity",
    "ness",
    "ings",
    "ing",
    "edly",
    "ies",
    "ied",
    "ed",
    "ly",
    "es",
    "s",
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SHORTEST_STEM = 4


def terms_of(issue: Issue) -> dict[str, float]:
    """The weight of each term. Repeated uses count by their logarithm.

    Empty if there are no words.
    """
    parts = anatomy(issue)
    counts: Counter[str] = Counter(_terms(parts.prose))
    weights: dict[str, float] = {term: 1 + math.log(n) for term, n in counts.items()}
    for term, n in Counter(_terms(parts.code[:8_000])).items():
        weights[term] = max(weights.get(term, 0.0), _CODE_FACTOR * (1 + math.log(n)))
    for term in _terms(parts.title):
        weights[term] = weights.get(term, 0.0) + _TITLE_FACTOR
    for name in parts.exceptions:
        weights[f"exception:{name.casefold()}"] = _TITLE_FACTOR
    kept = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_TERMS]
    return dict(kept)


def rarity(issues: int, with_term: int, term: str) -> float:
    """How much it means that two issues share `term`, which `with_term` of `issues` have.

    It is an inverse document frequency, above 0.
    """
    idf = math.log((issues + _PRIOR_ISSUES + 1) / (with_term + 1)) + 0.1
    return idf * _COMMON_WORTH if term in _COMMON else idf


def cosine(one: Mapping[str, float], other: Mapping[str, float], worth: Mapping[str, float]) -> float:
    """The cosine of two bags whose terms are weighted by `worth`, in [0, 1].

    It is 0 if one of them is empty.
    """
    dot = sum(weight * other[term] * worth[term] ** 2 for term, weight in one.items() if term in other)
    if not dot:
        return 0.0
    length = math.sqrt(_square(one, worth) * _square(other, worth))
    return min(1.0, dot / length)


def _square(bag: Mapping[str, float], worth: Mapping[str, float]) -> float:
    return sum((weight * worth[term]) ** 2 for term, weight in bag.items())


def _terms(text: str) -> list[str]:
    """Stems of the words that carry meaning, and pairs of characters in scripts without spaces."""
    found: list[str] = []
    for word in words(text):
        if _CJK.search(word):
            found.extend(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif word not in _STOP and len(word) > 1 and not word.isdigit():
            found.append(_stem(word[:40]))
    return found


def _stem(word: str) -> str:
    """The word without its commonest ending.

    It is enough to make `uploads`, `uploaded` and `uploading` one term.
    """
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM - 1:
            stem = word[: -len(suffix)]
            if stem[-1] == stem[-2] and stem[-1] not in "aeiouls":
                return stem[:-1]  # stopped, stop
            return stem.removesuffix("e")
    return word.removesuffix("e") if len(word) >= _SHORTEST_STEM else word
