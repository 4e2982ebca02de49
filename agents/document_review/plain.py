"""How plain a text is: long sentences, inflated words and passives, and what to do about each.

Owns the rules. Pure functions on text; both agents call them.
"""

import re
from typing import Final, Literal

from pydantic import BaseModel, Field

LONG_SENTENCE: Final = 25  # words; plain-language guides ask for 15 to 20 on average
INFLATED: Final = {
    "utilize": "use",
    "utilise": "use",
    "in order to": "to",
    "prior to": "before",
    "subsequent to": "after",
    "commence": "begin",
    "terminate": "end",
    "facilitate": "help",
    "due to the fact that": "because",
    "at this point in time": "now",
    "in the event that": "if",
    "a large number of": "many",
    "with regard to": "about",
    "endeavour": "try",
    "ascertain": "find out",
}
_SENTENCE: Final = re.compile(r"[^.!?]+[.!?]?\s*")
_PASSIVE: Final = re.compile(
    r"\b(?:is|are|was|were|been|being|be)\s+(\w+ed)\s+by\s+((?:the\s+|an?\s+)?\w+(?:\s+(?:team|office|board))?)",
    re.IGNORECASE,
)
_JOINTS: Final = re.compile(r",\s+(?:and|but|while|whereas|which)\s+|;\s+", re.IGNORECASE)

Kind = Literal["long sentence", "inflated word", "passive"]


class Finding(BaseModel):
    kind: Kind
    text: str


class Review(BaseModel):
    score: float = Field(ge=0, le=10)  # 10: nothing found
    findings: list[Finding] = []


def reviewed(text: str) -> Review:
    """What a reader would stumble over, and a score that falls with the findings per sentence."""
    sentences = _sentences(text)
    found = [Finding(kind="long sentence", text=s.strip()) for s in sentences if len(s.split()) > LONG_SENTENCE]
    lower = text.lower()
    found += [Finding(kind="inflated word", text=word) for word in INFLATED if re.search(rf"\b{word}\b", lower)]
    found += [Finding(kind="passive", text=match[0]) for match in _PASSIVE.finditer(text)]
    return Review(score=round(max(0.0, 10 - 8 * len(found) / max(1, len(sentences))), 1), findings=found)


def improved(text: str, findings: list[Finding]) -> str:
    """The text with one kind of finding fixed, the simplest kind first.

    A writer does one thing at a time.
    """
    kinds = {finding.kind for finding in findings}
    if "inflated word" in kinds:
        for word, plain in INFLATED.items():
            text = re.sub(rf"\b{word}\b", lambda match, plain=plain: _cased(match[0], plain), text, flags=re.IGNORECASE)  # type: ignore[misc] # mypy can't type the default
        return text
    if "long sentence" in kinds:
        return "".join(_split(s) if len(s.split()) > LONG_SENTENCE else s for s in _sentences(text))
    return _PASSIVE.sub(r"\2 \1", text) if kinds else text


def _sentences(text: str) -> list[str]:
    return [match[0] for match in _SENTENCE.finditer(text)]


def _split(sentence: str) -> str:
    """Split in two, at the joint nearest to the middle. Without a joint it stays as it is."""
    joints = list(_JOINTS.finditer(sentence))
    if not joints:
        return sentence
    joint = min(joints, key=lambda match: abs(match.start() - len(sentence) / 2))
    rest = sentence[joint.end() :]
    return f"{sentence[: joint.start()]}. {rest[:1].upper()}{rest[1:]}"


def _cased(found: str, plain: str) -> str:
    return plain.capitalize() if found[:1].isupper() else plain
