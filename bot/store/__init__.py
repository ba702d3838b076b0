"""The stored data: the tables, and one module per kind of record."""
