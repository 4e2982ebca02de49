"""Expressions and templates of routes: tokens, syntax, what they read, and how they are evaluated."""
