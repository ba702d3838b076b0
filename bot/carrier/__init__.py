"""Telnyx: webhooks verified and parsed, texts sent, API errors classified."""
