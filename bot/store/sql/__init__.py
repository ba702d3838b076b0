"""Column types, bulk inserts and list parameters that are faster than SQLAlchemy's own."""
