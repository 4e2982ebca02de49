"""The agents of all three designs.

`mesh agent agents.three_designs.agents`.

Owns what each agent does; `knowledge` has the articles. The chain and the DAG use the intake, the
finder, the history, the writer and the checker. In the mesh a dispatcher hands the ticket to a
specialist. A specialist who finds that it belongs to another one hands it on. The same checker has
the last word.
"""

from pydantic import BaseModel, Field

from mesh import Context, HandOver, agent

from .knowledge import Topic, best_articles, topic_scores


class Ticket(BaseModel):
    text: str = Field(min_length=1)
    customer: str = "somebody"
    earlier: list[str] = []  # the customer's earlier tickets
    passed_by: list[str] = []  # specialists who have had the ticket


class Intake(BaseModel):
    topic: Topic
    sure: float
    urgent: bool


class Sources(BaseModel):
    articles: list[str]
    text: str
    fit: float


class History(BaseModel):
    returning: bool
    same_before: bool


class Question(BaseModel):
    ticket: Ticket
    intake: Intake
    sources: Sources
    history: History | None = None


class Answer(BaseModel):
    topic: Topic
    sources: list[str]
    text: str


class Checked(BaseModel):
    answer: Answer
    sound: bool
    problems: list[str] = []


@agent("ticket-intake")
async def intake(ticket: Ticket) -> Intake:
    """What a ticket is about."""
    scores = topic_scores(ticket.text)
    topic = max(scores, key=lambda one: scores[one])
    urgent = any(word in ticket.text.lower() for word in ("urgent", "immediately", "lost", "stolen"))
    return Intake(topic=topic, sure=scores[topic], urgent=urgent)


@agent("ticket-finder")
async def find(ticket: Ticket) -> Sources:
    """The articles that fit."""
    found = best_articles(ticket.text)
    return Sources(
        articles=[article.id for article, _ in found],
        text=found[0][0].text if found else "",
        fit=found[0][1] if found else 0.0,
    )


@agent("ticket-history")
async def look_back(ticket: Ticket) -> History:
    """Whether the customer has asked before, and the same."""
    now = {article.id for article, _ in best_articles(ticket.text, limit=1)}
    before = {article.id for text in ticket.earlier for article, _ in best_articles(text, limit=1)}
    return History(returning=bool(ticket.earlier), same_before=bool(now & before))


@agent("ticket-writer")
async def write(question: Question) -> Answer:
    """The answer, from the best source."""
    again = question.history is not None and question.history.same_before
    return _answer(question.ticket, question.intake.topic, question.sources, again=again)


@agent("ticket-checker")
async def check(answer: Answer) -> Checked:
    """Whether the answer may go out: it has a source, and says something."""
    problems = [] if answer.sources else ["no source"]
    if len(answer.text.split()) < 8:  # noqa: PLR2004 - a greeting alone is not an answer
        problems.append("too short")
    return Checked(answer=answer, sound=not problems, problems=problems)


@agent("ticket-dispatcher")
async def dispatch(ticket: Ticket) -> Answer:
    """Hands a ticket to a specialist, by a look at its first sentence."""
    first = Ticket(text=ticket.text.partition(".")[0] or ticket.text)
    found = await intake(first)
    raise HandOver(f"ticket-{found.topic}", ticket)


@agent("ticket-billing")
async def billing(ticket: Ticket, ctx: Context) -> Answer:
    """Answers what is about money."""
    return await _as_specialist("billing", ticket, ctx)


@agent("ticket-technical")
async def technical(ticket: Ticket, ctx: Context) -> Answer:
    """Answers what is about the software."""
    return await _as_specialist("technical", ticket, ctx)


@agent("ticket-account")
async def account(ticket: Ticket, ctx: Context) -> Answer:
    """Answers what is about the customer's account."""
    return await _as_specialist("account", ticket, ctx)


async def _as_specialist(topic: Topic, ticket: Ticket, ctx: Context) -> Answer:
    """Answer the ticket, or hand it to a specialist who knows more about it.

    A specialist who has had the ticket does not get it again.
    """
    scores = topic_scores(ticket.text)
    better = [one for one in scores if scores[one] > scores[topic] and one not in ticket.passed_by]
    if better:
        other = max(better, key=lambda one: scores[one])
        ctx.log.info("handed_over", to=other)
        raise HandOver(f"ticket-{other}", ticket.model_copy(update={"passed_by": [*ticket.passed_by, topic]}))
    history = await look_back(ticket)
    return _answer(ticket, topic, await find(ticket), again=history.same_before)


def _answer(ticket: Ticket, topic: Topic, sources: Sources, *, again: bool) -> Answer:
    greeting = f"Dear {ticket.customer}, " + ("we are sorry that it came back. " if again else "")
    body = sources.text or "we could not find what this is about; a colleague will write to you."
    return Answer(topic=topic, sources=sources.articles, text=greeting + body)
