"""Refunds: a route with two approvals and an escalation, and the agents that look, judge and pay
(docs/examples.md).
"""
