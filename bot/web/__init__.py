"""The HTTP layer: Telnyx's webhook, the API, the web form and health checks."""
