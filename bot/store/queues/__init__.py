"""Queues in the database: texts to people, and app events."""
