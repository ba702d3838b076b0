"""Background tasks that keep the bot in order: expiry, retention, warm-up, clock checks."""
