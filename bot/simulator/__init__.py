"""A simulated Telnyx and the phones behind it, all on loopback."""
