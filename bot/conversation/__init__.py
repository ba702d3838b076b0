"""The pure heart: what was said, what it means, what happens next. No I/O, no clock."""
