"""The store in SQLite or PostgreSQL: exact with any number of writers, read in the same time however large."""

from otel_genapp.ledger.sql.store import SQLStore

__all__ = ["SQLStore"]
