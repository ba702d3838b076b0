"""Fakes, servers, settings and helpers that the tests share."""
