"""A FastAPI application for the servers under test."""

from __future__ import annotations

from fastapi import FastAPI

from tests.programs.work import start, work

app = FastAPI()
start(app)


@app.get("/work")
async def do_work() -> list[str]:
    return work()
