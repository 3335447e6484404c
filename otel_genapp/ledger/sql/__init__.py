"""The store in SQLite or PostgreSQL: exact with any number of writers, read in the same time however large.

Importing it takes SQLAlchemy, 0.3 s: do so when a store is opened.
"""

from otel_genapp.errors import MissingDependencyError

try:
    from otel_genapp.ledger.sql.store import SQLStore
except ModuleNotFoundError as error:
    if error.name != "sqlalchemy":
        raise
    raise MissingDependencyError("sqlalchemy", "postgres") from None

__all__ = ["SQLStore"]
