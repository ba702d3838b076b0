"""The phone page of `bot demo`, and the same powers over HTTP for an operator's own tests."""
