"""What happened to every study: the only durable state, and the only SQL."""
