"""A board as Grafana's JSON of the classic schema, made with the grafana-foundation-sdk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from otel_genapp import semconv
from otel_genapp.dashboards.boards import Board, Panel, Variable
from otel_genapp.errors import MissingDependencyError

DATASOURCE = "${datasource}"
TAG = "genapp"
# Known from the start, so that an app without any traffic can be chosen, too.
_PRESENT = semconv.TELEMETRY_ERRORS.name
EVERYWHERE = (
    Variable("env", "Environment", f"label_values({_PRESENT}, env)"),
    Variable("app", "App", f'label_values({_PRESENT}{{env=~"$env"}}, app)'),
)
"""The choices of every board, beside the data source."""
EXEMPLARS_OF = "_bucket{"
"""Only histograms have exemplars; asking for those of others costs a request each time."""


@contextmanager
def _classic() -> Iterator[None]:
    """The classic schema is chosen on purpose: Grafana 10 to 13 read it, the next one only the newest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@_classic()
def render(board: Board) -> str:
    """The board as JSON text, the same for the same board: keys sorted, ids counted from 1.

    Raises:
        MissingDependencyError: the grafana-foundation-sdk is not installed.
    """
    try:
        from grafana_foundation_sdk.builders import dashboard
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
    except ImportError:
        raise MissingDependencyError("grafana-foundation-sdk", "dashboards") from None
    builder = dashboard.Dashboard(board.title)
    builder.uid(f"{TAG}-{board.audience}").description(board.description).tags([TAG])
    builder.time(board.period, "now").refresh("30s").timezone("browser").readonly()
    builder.tooltip(_models().dashboard.DashboardCursorSync.CROSSHAIR)
    for each in _variables(board):
        builder.with_variable(each)
    for link in _links(board):
        builder.link(link)
    numbers = count(1)
    for row in board.rows:
        builder.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            builder.with_panel(_panel(panel, next(numbers)))
    told = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    for link in told["links"]:
        del link["placement"]  # the one the library always sets hides links in a menu
    return json.dumps(told, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _models() -> Any:
    import grafana_foundation_sdk.models.common
    import grafana_foundation_sdk.models.dashboard

    return grafana_foundation_sdk.models


def _source() -> Any:
    return _models().common.DataSourceRef("prometheus", DATASOURCE)


def _variables(board: Board) -> list[Any]:
    from grafana_foundation_sdk.builders import dashboard

    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    return [source, *(_variable(each) for each in (*EVERYWHERE, *board.variables))]


def _variable(variable: Variable) -> Any:
    from grafana_foundation_sdk.builders import dashboard

    models = _models().dashboard
    if not variable.query:
        text = (
            dashboard.TextBoxVariable(variable.name).label(variable.label).description(variable.description)
        )
        chosen = models.VariableOption(selected=True, text=variable.value, value=variable.value)
        return text.default_value(variable.value).current(chosen).options([chosen])
    choice = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .description(variable.description)
        .datasource(_source())
        .definition(variable.query)
        .query({"query": variable.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if variable.single:
        return choice
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    # This value also matches series that lack the label.
    return choice.multi(True).include_all(True).all_value(".*").current(everything)


def _links(board: Board) -> list[Any]:
    from grafana_foundation_sdk.builders import dashboard

    types = _models().dashboard.DashboardLinkType
    boards = dashboard.DashboardLink("Gen apps").type(types.DASHBOARDS).tags([TAG]).as_dropdown(True)
    found = [boards.include_vars(True).keep_time(True)]
    for title, url in board.links:
        found.append(
            dashboard.DashboardLink(title).type(types.LINK).url(url).icon("external link").target_blank(True)
        )
    return found


def _panel(panel: Panel, number: int) -> Any:
    builder = _KINDS[panel.kind](panel)
    builder.id(number).title(panel.title).description(panel.description)
    builder.span(panel.width).height(panel.height)
    if panel.kind == "text":
        return builder
    builder.datasource(_source()).unit(panel.unit).thresholds(_thresholds(panel))
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.links:
        builder.data_links([_data_link(*link) for link in panel.links])
    for place, query in enumerate(panel.queries):
        builder.with_target(_target(panel, query.expr, legend=query.legend, ref=chr(ord("A") + place)))
    return builder


def _target(panel: Panel, expr: str, *, legend: str, ref: str) -> Any:
    from grafana_foundation_sdk.builders import prometheus

    target = (
        prometheus.Dataquery().expr(expr).ref_id(ref).legend_format(legend or "__auto").datasource(_source())
    )
    if panel.kind in {"table", "bars"} or "$__range" in expr:
        target.instant()
    else:
        target.range().exemplar(EXEMPLARS_OF in expr)
    if panel.kind == "table":
        target.format(_prometheus_format())
    return target


def _prometheus_format() -> Any:
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    return PromQueryFormat.TABLE


def _data_link(title: str, url: str) -> Any:
    from grafana_foundation_sdk.builders import dashboard

    return dashboard.DashboardLink(title).url(url).target_blank(True)


def _thresholds(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import dashboard

    models = _models().dashboard
    steps = [models.Threshold(None, "green")]
    if panel.limits is not None and panel.low_is_bad:
        orange, red = panel.limits
        steps = [
            models.Threshold(None, "red"),
            models.Threshold(red, "orange"),
            models.Threshold(orange, "green"),
        ]
        if orange == red:
            del steps[1]
    elif panel.limits is not None:
        orange, red = panel.limits
        steps += [models.Threshold(orange, "orange"), models.Threshold(red, "red")]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, timeseries

    models = _models().common
    legend = common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST)
    tooltip = (
        common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING)
    )
    builder = timeseries.Panel().min(0).fill_opacity(8).line_width(1).show_points(models.VisibilityMode.AUTO)
    builder.legend(legend.placement(models.LegendPlacement.BOTTOM).show_legend(True)).tooltip(tooltip)
    if panel.kind == "stacked":
        builder.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL)).fill_opacity(40)
    return builder


def _number(_: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, stat

    models = _models().common
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    builder = stat.Panel().reduce_options(last).graph_mode(models.BigValueGraphMode.AREA)
    return builder.color_mode(models.BigValueColorMode.VALUE).no_value("none")


def _table(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import table
    from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

    # One row for each label set, its values side by side; the time of an instant query says nothing.
    merged = DataTransformerConfig("merge", options={})
    titles = {f"Value #{chr(ord('A') + place)}": query.legend for place, query in enumerate(panel.queries)}
    titles["Value"] = panel.queries[0].legend
    tidy = DataTransformerConfig(
        "organize", options={"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": titles}
    )
    return table.Panel().with_transformation(merged).with_transformation(tidy).no_value("none")


def _bars(_: Panel) -> Any:
    from grafana_foundation_sdk.builders import bargauge, common

    models = _models().common
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    builder = bargauge.Panel().reduce_options(last).orientation(models.VizOrientation.HORIZONTAL).min(0)
    return builder.display_mode(models.BarGaugeDisplayMode.BASIC).show_unfilled(True).no_value("none")


def _text(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import text
    from grafana_foundation_sdk.models.text import TextMode

    return text.Panel().mode(TextMode.MARKDOWN).content(panel.text)


_KINDS = {
    "lines": _lines,
    "stacked": _lines,
    "number": _number,
    "table": _table,
    "bars": _bars,
    "text": _text,
}
