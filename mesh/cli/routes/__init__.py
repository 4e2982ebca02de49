"""`mesh routes`: one module for each command, and their group."""
