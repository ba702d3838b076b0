"""A simulated Telnyx: accepts texts, signs webhooks, and fails on request."""
