"""What an agent author imports, by way of `mesh`: the decorator, the context, the errors."""
