"""Telnyx, spoken to: webhooks in, API requests out, errors classified."""
