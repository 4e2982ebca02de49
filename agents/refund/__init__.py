"""Refunds: a route with two approvals and an escalation, and its agents.

The agents look, judge and pay (docs/examples.md).
"""
