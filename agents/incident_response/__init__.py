"""Incident response: a bad release is drained and rolled back, and what was done is undone if that
does not help (docs/examples.md).
"""
