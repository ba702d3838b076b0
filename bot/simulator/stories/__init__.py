"""Stories: scripts of conversations, played as tests and written from sessions."""
