"""The duplicate finder's own memory: every issue that it was shown, in one SQLite file.

It is searched by TF-IDF cosine within a repository. Owns the file and its schema. The file survives
restarts, and several processes may use it at once: each call is one transaction that holds the
write lock from its first statement. The answer to a task is kept by its idempotency key, so that a
task that is delivered twice has one answer.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pydantic_core

from .models import Duplicates, Issue, Match
from .terms import cosine, rarity, terms_of

_SCHEMA = """
create table if not exists issues (
    id integer primary key,
    repository text not null, number integer not null, title text not null, url text not null,
    terms text not null,                       -- JSON: term to weight
    unique (repository, number));
create table if not exists postings (
    repository text not null, term text not null, issue integer not null, weight real not null,
    primary key (repository, term, issue)) without rowid;
create table if not exists frequencies (        -- how many issues have a term: rows of postings, counted
    repository text not null, term text not null, issues integer not null,
    primary key (repository, term)) without rowid;
create table if not exists answers (
    task text primary key, matches text not null, at integer not null default (strftime('%s', 'now'))) without rowid;
create index if not exists answers_by_age on answers (at);
"""
_LOCK_WAIT_S = 15.0  # half of a step's usual time-out; after it the attempt fails and is retried
_QUERY_TERMS = 30  # the rarest terms give the candidates; all terms give their scores
_CANDIDATES = 25
_ANSWERS_KEPT_S = 7 * 86_400  # far beyond any task's retries


class DuplicateIndex:
    """One index file. Each call opens it, so any thread or process may use the object."""

    def __init__(self, path: Path, *, threshold: float = 0.42, most: int = 5) -> None:
        """Name the file. `threshold` in [0, 1]: matches below it are not worth a person's look.

        `most`: the largest number of matches.
        """
        self._path = path
        self._threshold = threshold
        self._most = most

    def find(self, issue: Issue, *, task: str) -> Duplicates:
        """Issues like this one among those shown before, which from now on include it.

        The same `task` gets the same answer again. Raises `sqlite3.OperationalError` if the file
        stays locked.
        """
        with self._transaction() as db:
            known = db.execute("select matches from answers where task = ?", (task,)).fetchone()
            if known is not None:
                return Duplicates.model_validate_json(known[0])
            terms = terms_of(issue)
            found = Duplicates(matches=self._matches(db, issue, terms))
            # after the search, so that an issue is not found as like itself
            _remember(db, issue, terms)
            db.execute("insert into answers (task, matches) values (?, ?)", (task, found.model_dump_json()))
            db.execute("delete from answers where at < strftime('%s', 'now') - ?", (_ANSWERS_KEPT_S,))
            return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, isolation_level=None)) as db:
            # the write lock from the first statement, so that two calls never work on the same old
            # state
            db.execute("begin immediate")
            try:
                _make_schema(db)
                yield db
            except BaseException:
                db.execute("rollback")
                raise
            db.execute("commit")

    def _matches(self, db: sqlite3.Connection, issue: Issue, terms: Mapping[str, float]) -> list[Match]:
        worth = _Worth(db, issue.repository)
        worth.look_up(terms)
        candidates = [
            (number, title, url, pydantic_core.from_json(stored))
            for number, title, url, stored in _candidates(db, issue, terms, worth)
        ]
        # a bag's length counts all its terms, also those that this issue does not have
        worth.look_up({term for *_, bag in candidates for term in bag})
        scored: list[Match] = []
        for number, title, url, bag in candidates:
            score = cosine(terms, bag, worth)
            if score >= self._threshold:
                scored.append(Match(number=number, title=title, score=round(score, 2), url=url))
        return sorted(scored, key=lambda match: (-match.score, match.number))[: self._most]


class _Worth(dict[str, float]):
    """How rare each term is in one repository, for the terms that were looked up."""

    def __init__(self, db: sqlite3.Connection, repository: str) -> None:
        super().__init__()
        self._db = db
        self._repository = repository
        (self._issues,) = db.execute("select count(*) from issues where repository = ?", (repository,)).fetchone()

    def look_up(self, terms: Iterable[str]) -> None:
        """Look these terms up, in one query."""
        new = [term for term in terms if term not in self]
        rows = self._db.execute(
            "select term, issues from frequencies where repository = ? and term in (select value from json_each(?))",
            (self._repository, pydantic_core.to_json(new).decode()),
        )
        known = dict(rows.fetchall())
        self.update((term, rarity(self._issues, known.get(term, 0), term)) for term in new)


def _make_schema(db: sqlite3.Connection) -> None:
    (version,) = db.execute("pragma user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute("pragma user_version = 1")


def _candidates(
    db: sqlite3.Connection, issue: Issue, terms: Mapping[str, float], worth: _Worth
) -> Sequence[tuple[int, str, str, str]]:
    """The other issues that share most with this one's rarest terms.

    Returns (number, title, URL, terms) for each.
    """
    asked = sorted(terms, key=lambda term: -terms[term] * worth[term])[:_QUERY_TERMS]
    if not asked:
        return []
    values = ", ".join("(?, ?)" for _ in asked)
    parameters = [value for term in asked for value in (term, terms[term] * worth[term] ** 2)]
    return db.execute(
        f"""with asked (term, worth) as (values {values})
            select i.number, i.title, i.url, i.terms
            from asked join postings p on p.repository = ? and p.term = asked.term join issues i on i.id = p.issue
            where i.number <> ?
            group by i.id order by sum(p.weight * asked.worth) desc limit ?""",  # noqa: S608 - question marks alone are put in
        (*parameters, issue.repository, issue.number, _CANDIDATES),
    ).fetchall()


def _remember(db: sqlite3.Connection, issue: Issue, terms: Mapping[str, float]) -> None:
    """Store the issue, or replace its old text."""
    _forget(db, issue)
    row = db.execute(
        "insert into issues (repository, number, title, url, terms) values (?, ?, ?, ?, ?)",
        (issue.repository, issue.number, issue.title, issue.html_url, pydantic_core.to_json(terms).decode()),
    ).lastrowid
    db.executemany(
        "insert into postings (repository, term, issue, weight) values (?, ?, ?, ?)",
        [(issue.repository, term, row, weight) for term, weight in terms.items()],
    )
    db.executemany(
        """insert into frequencies (repository, term, issues) values (?, ?, 1)
           on conflict (repository, term) do update set issues = issues + 1""",
        [(issue.repository, term) for term in terms],
    )


def _forget(db: sqlite3.Connection, issue: Issue) -> None:
    """Remove the issue, if it is stored."""
    known = db.execute(
        "select id, terms from issues where repository = ? and number = ?", (issue.repository, issue.number)
    ).fetchone()
    if known is None:
        return
    row, stored = known
    terms = [(issue.repository, term) for term in pydantic_core.from_json(stored)]
    db.executemany("update frequencies set issues = issues - 1 where repository = ? and term = ?", terms)
    db.executemany(
        "delete from postings where repository = ? and term = ? and issue = ?", [(*term, row) for term in terms]
    )
    db.execute("delete from issues where id = ?", (row,))
