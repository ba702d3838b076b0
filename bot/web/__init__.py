"""The HTTP side: Telnyx's webhook, the API, the web form and health checks. No rules live here."""
