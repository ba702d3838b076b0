"""What every handler shares: bodies, client addresses, log throttling, templates, static files."""
