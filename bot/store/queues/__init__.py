"""The queues in the database: texts to people, and app events."""
