"""The JSON Schema of route files, for editors."""
