"""Conversations as readable scripts: played as tests, written from a session."""
