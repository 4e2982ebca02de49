"""The refund desk's agents: the customer's history, what a refund would cost, and the payment.

Owns what each agent does; `ledger` has the refunds. `mesh agent agents.refund.desk`.
"""

from pydantic import BaseModel, Field

from mesh import Context, NonRetryable, agent

from .ledger import open_ledger

_MANY = 3  # from this many refunds of one customer on, a person should look
_NEVER_ALONE_CENTS = 50_000  # above this, somebody must have approved, whatever a route says
_USUAL_REASONS = frozenset({"damaged", "never arrived", "wrong item", "cancelled"})


class Request(BaseModel):
    order: str = Field(min_length=1)
    customer: str = Field(min_length=1)
    cents: int = Field(gt=0)
    reason: str = ""


class Assessment(BaseModel):
    risk: float = Field(ge=0, le=1)
    because: list[str] = []
    earlier_refunds: int = 0


class Payment(BaseModel):
    request: Request
    approvals: dict[str, str] = {}  # how each question came out


class Paid(BaseModel):
    order: str
    cents: int
    already: bool = False


@agent("refund-assessor")
def assess(request: Request) -> Assessment:
    """How risky a refund is, by what the ledger and the request say."""
    with open_ledger() as ledger:
        earlier = ledger.of(request.customer)
    because: list[str] = []
    if any(order == request.order for order, _ in earlier):
        because.append(f"order {request.order} has been refunded before")
    if len(earlier) >= _MANY:
        because.append(f"{len(earlier)} refunds before")
    if request.reason.strip().lower() not in _USUAL_REASONS:
        because.append("an unusual reason" if request.reason.strip() else "no reason given")
    twice = any(order == request.order for order, _ in earlier)
    return Assessment(
        risk=min(1.0, 0.3 * len(because) + (0.5 if twice else 0)), because=because, earlier_refunds=len(earlier)
    )


@agent("refund-payer")
def pay(payment: Payment, ctx: Context) -> Paid:
    """Pay, once for a task however often it runs."""
    request = payment.request
    if request.cents > _NEVER_ALONE_CENTS and "succeeded" not in payment.approvals.values():
        raise NonRetryable(f"order {request.order}: nobody has approved {request.cents / 100:.2f}", kind="not_approved")
    with open_ledger() as ledger:
        entered = ledger.pay(ctx.idempotency_key, request.customer, request.order, request.cents)
    ctx.log.info("refund_paid", order=request.order, already=not entered)
    return Paid(order=request.order, cents=request.cents, already=not entered)
