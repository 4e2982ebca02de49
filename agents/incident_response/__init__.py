"""Incident response: a bad release is drained and rolled back.

If that does not help, what was done is undone (docs/examples.md).
"""
