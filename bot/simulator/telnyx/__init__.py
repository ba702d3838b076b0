"""A simulated Telnyx: it accepts texts, signs webhooks, and fails on request."""
