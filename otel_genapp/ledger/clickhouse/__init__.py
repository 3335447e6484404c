"""The store in ClickHouse, for a fleet: rows are added in batches, and summed when they are asked for.

Importing it takes no library; opening a store takes `clickhouse-connect`.
"""

from otel_genapp.ledger.clickhouse.store import ClickHouseStore

__all__ = ["ClickHouseStore"]
