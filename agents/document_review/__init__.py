"""Document review: a writer and a critic in a loop, and an editor at its end.

The loop ends when the text is plain enough (docs/examples.md).
"""
