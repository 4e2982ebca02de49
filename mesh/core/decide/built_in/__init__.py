"""Decisions of the workflows that belong to the mesh itself: aliases, schedules, limiters."""
