"""HTTP helpers that handlers share: bodies, client addresses, limits, headers, static files."""
