"""A Flask application whose workers hold 1,000 label sets each, with our `/prometheus`."""

from __future__ import annotations

from flask import Flask

from otel_genapp import init_telemetry
from tests.bench.worker_arms import label_sets

app = Flask(__name__)
telemetry = init_telemetry("bench", "dev", internal_auth="bench", app=app)
families = telemetry._machinery.instruments
for labels in label_sets():
    families.llm_requests.record(1, (*labels, "success"))
    families.llm_duration.record(0.8, labels)
