"""A Flask service written for the package this one follows; only the imports' prefix is new."""

from __future__ import annotations

import flask

from otel_genapp.llm_common.prometheus import (
    action_tracking,
    action_tracking_decorator,
    build_prometheus_metrics,
    flask_endpoint_for_prometheus,
)

build_prometheus_metrics("shop-bot", "local")

app = flask.Flask("shop")
app.route("/prometheus")(flask_endpoint_for_prometheus)
app.add_url_rule("/metrics", "metrics", flask_endpoint_for_prometheus)


@action_tracking_decorator("digest_task")
def digest(count: int) -> int:
    if count > 3:
        raise ValueError(count)
    return count


@app.post("/menu/<int:item>")
def menu(item: int) -> dict[str, int]:
    with action_tracking("menu_handler") as tracker:
        tracker.size(item)
        if item == 2:
            tracker.to_fail()
    return {"digest": digest(item), "read": len(flask.request.get_data())}
