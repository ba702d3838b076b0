"""A pretend Telnyx and the phones behind it, all on loopback."""
