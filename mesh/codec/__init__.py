"""Bytes to values and back: CloudEvents, log records, tasks, approvals, route files.

Here JSON ends and typed values begin.
"""
