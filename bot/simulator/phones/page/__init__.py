"""The phone page of `bot demo`, and its functions over HTTP for an operator's own tests."""
