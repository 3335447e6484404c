"""The source that options and environment choose."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from otel_genapp.cli.places import Wanted, add_app_options, find_state_directory, state_directories
from otel_genapp.cli.service import ServiceSource, add_service_options, open_service
from otel_genapp.cli.source import Source
from otel_genapp.cli.stored import StoredSource
from otel_genapp.config import ENVIRONMENT, price_file_path, telemetry_environment
from otel_genapp.errors import ConfigError


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a source."""
    add_app_options(parser)
    parser.add_argument(
        "--store", default="", help="read this store instead, by its URL (as in GENAPP_STORE)"
    )
    add_service_options(parser, "ask a running service instead, by its address (http://host:port)")


@contextmanager
def opened_source(given: argparse.Namespace) -> Iterator[Source]:
    """The source that the options and the environment choose.

    Raises:
        GenappError: none is chosen, more than one, or it cannot be opened.
    """
    source = open_source(given, telemetry_environment())
    try:
        yield source
    finally:
        source.close()


def open_source(given: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    """As `opened_source`, for an environment; the caller closes it."""
    if given.url and given.store:
        raise ConfigError("give either --url or --store")
    if given.url:
        return ServiceSource(open_service(given, environ))
    # It may name prices, and calls that are in no store yet have none.
    prices = price_file_path(environ)
    if given.store:
        return StoredSource.of_store(given.store, prices)
    wanted = Wanted.read(given, environ)
    store = environ.get(ENVIRONMENT["store"], "").strip()
    if store and not any(wanted.fits(path.name) for path in state_directories(wanted.bases)):
        return StoredSource.of_store(store, prices)  # of applications on other hosts
    return StoredSource.of_state_directory(find_state_directory(wanted), store=store, prices=prices)
