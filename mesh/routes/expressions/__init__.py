"""Expressions and templates of routes.

Tokens, syntax, what they read, and how they are evaluated.
"""
