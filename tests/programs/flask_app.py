"""A Flask application for the servers under test."""

from __future__ import annotations

from flask import Flask

from tests.programs.work import start, work

app = Flask(__name__)
start(app)


@app.get("/work")
def do_work() -> list[str]:
    return work()
