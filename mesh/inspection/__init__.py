"""Answers for people about routes, workflows and a mesh, as values. No process imports it."""
