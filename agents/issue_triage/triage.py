"""From evidence to a verdict: labels, severity, and a confidence that means what it says.

Owns the arithmetic. `confidence` is the chance that `kind` is right: the share of the strongest
kind among the four. Little evidence, few words, or a language that the table of evidence does not
know lower it. Pure; called by the classifier.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from .anatomy import Anatomy, anatomy
from .evidence import KINDS, TOPICS, Evidence, Kind, Label, gather
from .models import Issue, Triage

_SHARPNESS = 0.9  # how much a lead in log-odds counts; set on the labelled issues of the tests
_SATURATION = 1.3  # log-odds of evidence that make two thirds of full trust
_ENOUGH_WORDS = 12
_SUREST = 0.98  # words are never proof
_ENGLISH_ENOUGH = 0.18  # English prose has 0.35 to 0.5 function words, other languages below 0.1
_TOPIC_BIAS = -1.9
_SEVERITY_BIAS = -2.2
_LEAST_KIND = 0.8  # log-odds below which a kind is a guess
_IMPLIED = 0.45  # the share of the strongest topic's and the severity's evidence that also counts for a bug
_TOPICS_OF_BUGS: tuple[Label, ...] = ("performance", "security", "build/ci", "crash", "regression")
_SECOND_KIND = 0.75  # a second kind's label is given from this share of the first one's score
_MAX_REASONS = 6


def triage(issue: Issue) -> Triage:
    """Label an issue.

    Never raises, whatever the text. What it can't tell has the kind `unclear` and a low confidence.
    """
    parts = anatomy(issue)
    evidence = gather(parts)
    scores = _scores(evidence)
    ranked = sorted(KINDS, key=lambda kind: -scores[kind])
    best = ranked[0]
    confidence = _confidence(scores, parts)
    if scores[best] < _LEAST_KIND:
        return Triage(
            labels=["needs-triage", *_topics(scores)],
            severity=_severity(scores, best),
            confidence=round(min(confidence, 0.3), 2),
            reasons=[_caution(parts), *_reasons(evidence, TOPICS)],
        )
    kinds = [kind for kind in ranked if scores[kind] >= max(_LEAST_KIND, scores[best] * _SECOND_KIND)]
    labels = [*kinds, *_topics(scores)]
    return Triage(
        labels=list(labels),
        severity=_severity(scores, best),
        confidence=round(confidence, 2),
        kind=best,
        reasons=_reasons(evidence, [*labels, "high"]),
    )


def _scores(evidence: Iterable[Evidence]) -> Mapping[Label, float]:
    scores: defaultdict[Label, float] = defaultdict(float)
    for one in evidence:
        scores[one.label] += one.weight
    implied = max(scores[topic] for topic in _TOPICS_OF_BUGS) + max(0.0, scores["high"])
    scores["bug"] += _IMPLIED * max(0.0, implied)
    return scores


def _confidence(scores: Mapping[Label, float], parts: Anatomy) -> float:
    best = max(scores[kind] for kind in KINDS)
    share = 1 / sum(math.exp(_SHARPNESS * (scores[kind] - best)) for kind in KINDS)
    trust = 1 - math.exp(-max(0.0, best) / _SATURATION)
    length = min(1.0, 0.6 + 0.4 * parts.prose_words / _ENOUGH_WORDS)
    language = min(1.0, 0.4 + 0.6 * parts.english / _ENGLISH_ENOUGH)
    return min(_SUREST, share * trust * length * language)


def _topics(scores: Mapping[Label, float]) -> list[Label]:
    return [topic for topic in TOPICS if scores[topic] + _TOPIC_BIAS > 0]


def _severity(scores: Mapping[Label, float], kind: Kind) -> Literal["low", "high"]:
    """High if something is lost, exposed or unusable.

    A feature request or a question may mention such things without having them.
    """
    having = {"bug": 1.0, "question": 0.45, "feature": 0.35, "documentation": 0.35}[kind]
    exposed = 1.2 if scores["security"] + _TOPIC_BIAS > 0 else 0.0
    odds = _SEVERITY_BIAS + having * scores["high"] + exposed - scores["low"]
    return "high" if odds > 0 else "low"


def _reasons(evidence: Iterable[Evidence], labels: Iterable[str]) -> list[str]:
    wanted = set(labels)
    chosen = sorted((one for one in evidence if one.label in wanted and one.weight > 0), key=lambda one: -one.weight)
    return [_reason(one) for one in chosen[:_MAX_REASONS]]


def _reason(one: Evidence) -> str:
    label = f"severity {one.label}" if one.label in {"high", "low"} else one.label
    return f"{label}: {one.quote!r} in the title" if one.in_title else f"{label}: {one.quote!r}"


def _caution(parts: Anatomy) -> str:
    if not parts.prose_words:
        return "there are no words to go by"
    if parts.english < _ENGLISH_ENOUGH / 2 and parts.prose_words >= _ENOUGH_WORDS:
        return "the text does not read as English"
    return f"little to go by in {parts.prose_words} words"
