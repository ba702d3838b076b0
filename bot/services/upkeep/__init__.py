"""Background tasks: expiry, retention, warm-up, clock checks."""
