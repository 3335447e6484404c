"""A Flask application with a dependency: it is up as long as the file of `DEPENDENCY` is there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from flask import Flask

from otel_genapp import init_telemetry

app = Flask(__name__)
telemetry = init_telemetry("fleet", "prod", app=app, internal_auth="test", version="1.4.0")
telemetry.health.add("dependency", Path(os.environ["DEPENDENCY"]).exists, every_s=0.1)


@app.get("/work")
def work() -> dict[str, int]:
    return {"pid": os.getpid(), "threads": threading.active_count()}
