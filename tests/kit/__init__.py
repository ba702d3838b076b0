"""What the tests stand on: a PostgreSQL server, a clock that stands still."""
