"""Decisions of the mesh's own workflows: aliases, schedules, limiters."""
