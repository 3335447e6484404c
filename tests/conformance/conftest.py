"""What the tests of stores ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_genapp.ledger.store import Store
from tests.conformance.stores import STORES, Factory
from tests.servers import Servers


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Factory]:
    """Opens stores of one kind, all on the same records where the kind can share."""
    with STORES[request.param](servers) as factory:
        yield factory


@pytest.fixture
def store(open_store: Factory) -> Store:
    """An empty store of each kind."""
    return open_store()
