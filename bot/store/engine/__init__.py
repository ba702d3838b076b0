"""Transactions on SQLite and PostgreSQL, database errors, and the schema's migrations."""
