"""The issue desk: four agents, a route and sample events that sort a repository's new issues.

docs/issue-triage.md describes it.
"""
