"""What the help desk knows: articles by topic, and how well each fits a ticket.

Owns the articles and their scores. Pure functions on text; the agents call them.
"""

import re
from collections import Counter
from math import log
from typing import Final, Literal

from pydantic import BaseModel

Topic = Literal["billing", "technical", "account"]
TOPICS: Final[tuple[Topic, ...]] = ("billing", "technical", "account")


class Article(BaseModel):
    id: str
    topic: Topic
    title: str
    text: str


ARTICLES: Final = [
    Article(
        id="kb-1",
        topic="billing",
        title="Where is my invoice?",
        text="Invoices are under Billing, Documents. They are sent by mail on the first of each month.",
    ),
    Article(
        id="kb-2",
        topic="billing",
        title="A charge that I do not know, or was charged twice",
        text="A card may show a reservation beside the charge. It goes within five days. If both stay, the second charge is refunded.",
    ),
    Article(
        id="kb-3",
        topic="billing",
        title="Cancel the subscription, and refunds",
        text="Cancel under Billing, Plan. What is paid for the rest of the period is refunded to the card.",
    ),
    Article(
        id="kb-4",
        topic="technical",
        title="The upload hangs or fails with an error",
        text="Files up to 2 GB can be uploaded. Behind a proxy the upload may hang: switch chunked upload on under Settings, Network.",
    ),
    Article(
        id="kb-5",
        topic="technical",
        title="The app crashes at start",
        text="Clear the cache under Settings, Storage, and start again. A crash with version 4.1 is fixed in 4.2.",
    ),
    Article(
        id="kb-6",
        topic="technical",
        title="Synchronisation is slow",
        text="The first synchronisation of a large folder takes hours. Later ones send differences alone.",
    ),
    Article(
        id="kb-7",
        topic="account",
        title="Reset the password, or cannot log in",
        text="Use the link 'forgot password' on the log-in page. The mail may take ten minutes; look into spam.",
    ),
    Article(
        id="kb-8",
        topic="account",
        title="Delete the account and its data",
        text="Delete it under Account, Close. All data are gone after thirty days, and cannot be brought back.",
    ),
    Article(
        id="kb-9",
        topic="account",
        title="Change the mail address or the name",
        text="Change them under Account, Profile. The new address gets a mail with a link to confirm it.",
    ),
]

_WORD: Final = re.compile(r"[a-z]{3,}")
_STOP: Final = frozenset(
    _WORD.findall(
        "the and for with that this was are not has have its from them they what when where which who will would can cannot"
        " could should may been your you our out all any but had how into more"
    )
)


def _stems(text: str) -> Counter[str]:
    words = (word for word in _WORD.findall(text.lower()) if word not in _STOP)
    return Counter(re.sub(r"(?:ing|ed|es|s)$", "", word) for word in words)


_STEMS: Final = {article.id: _stems(f"{article.title} {article.title} {article.text}") for article in ARTICLES}
_RARE: Final = {
    stem: log(1 + len(ARTICLES) / sum(stem in stems for stems in _STEMS.values()))
    for stems in _STEMS.values()
    for stem in stems
}


def best_articles(text: str, *, topic: Topic | None = None, limit: int = 2) -> list[tuple[Article, float]]:
    """The articles that fit best, and how much of the ticket's known words each has, in [0, 1].

    An article that shares no word is left out.
    """
    asked = {stem for stem in _stems(text) if stem in _RARE}
    total = sum(_RARE[stem] for stem in asked) or 1.0
    found = [
        (article, sum(_RARE[stem] for stem in asked & _STEMS[article.id].keys()) / total)
        for article in ARTICLES
        if topic is None or article.topic == topic
    ]
    return sorted(((a, round(s, 3)) for a, s in found if s > 0), key=lambda one: (-one[1], one[0].id))[:limit]


def topic_scores(text: str) -> dict[Topic, float]:
    """How much a ticket is about each topic: the score of its best article."""
    return {topic: max((score for _, score in best_articles(text, topic=topic)), default=0.0) for topic in TOPICS}
