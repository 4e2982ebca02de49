"""What is known of a route before any event: types, schemas, conditions, dead steps."""
