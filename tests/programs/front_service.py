"""A FastAPI service that asks the Flask service behind it."""

from __future__ import annotations

import os

import httpx
from fastapi import FastAPI

from otel_genapp import init_telemetry

BACK_URL = os.environ["BACK_URL"]

app = FastAPI()
telemetry = init_telemetry("shop", "prod", internal_auth="test", app=app)


@app.get("/front")
async def front(kind: str = "plain") -> dict[str, int]:
    """The answer of the service behind."""
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.get(f"{BACK_URL}/ask", params={"id": "ask-1", "kind": kind})
    return {"worker": os.getpid(), "back": answer.json()["worker"]}
