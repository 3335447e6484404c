"""Grafana's boards as code: what each shows is data, what Grafana reads is rendered from it and committed."""

from __future__ import annotations

from otel_genapp.dashboards import actions, ai, business, explorer, operations, slo
from otel_genapp.dashboards.boards import Board
from otel_genapp.dashboards.rendering import render

_MAKERS = tuple(part.make_board for part in (operations, business, ai, slo, actions, explorer))


def boards() -> tuple[Board, ...]:
    """All boards."""
    return tuple(make() for make in _MAKERS)


def rendered() -> dict[str, str]:
    """The JSON text of each board by its file's name.

    Raises:
        MissingDependencyError: the grafana-foundation-sdk is not installed.
    """
    return {f"{board.audience}.json": render(board) for board in boards()}
