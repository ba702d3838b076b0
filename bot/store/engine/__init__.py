"""Transactions on SQLite and PostgreSQL, their errors, and the schema's migrations."""
