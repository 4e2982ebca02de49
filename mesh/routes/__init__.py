"""The route language: from a route document to a `Route`. Pure, as the core is."""
