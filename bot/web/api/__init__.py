"""The HTTP API for apps, below /v1."""
