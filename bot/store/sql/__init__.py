"""SQL that SQLAlchemy does not write fast enough by itself: bulk inserts and list parameters."""
