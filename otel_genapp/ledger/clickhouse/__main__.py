"""Prints the tables of a cluster: `collector/clickhouse/ledger_cluster.sql`."""

import sys

from otel_genapp.ledger.clickhouse.schema import cluster_file

sys.stdout.write(cluster_file())
