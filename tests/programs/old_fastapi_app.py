"""A FastAPI service written for the package this one follows; only the imports' prefix is new."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request

from otel_genapp.llm_common.clients.auth_client import AuthHttpClient
from otel_genapp.llm_common.clients.llm_http_client import LLMHttpClient
from otel_genapp.llm_common.prometheus import (
    action_tracking,
    action_tracking_decorator,
    build_prometheus_metrics,
    fastapi_endpoint_for_prometheus,
    fastapi_tracking_middleware,
)

build_prometheus_metrics(project_name="shop-bot", env="production")

app = FastAPI()
app.middleware("http")(fastapi_tracking_middleware)
app.get("/prometheus")(fastapi_endpoint_for_prometheus)
app.add_api_route("/metrics", fastapi_endpoint_for_prometheus)

llm_client = LLMHttpClient(verify=False)
auth_client = AuthHttpClient(verify=False)


@action_tracking_decorator("digest_task")
async def digest(count: int) -> int:
    await asyncio.sleep(0)
    if count > 3:
        raise ValueError(count)
    return count


@app.post("/menu/{item}")
async def menu(item: int, request: Request) -> dict[str, int]:
    with action_tracking("menu_handler") as tracker:
        tracker.size(item)
        if item == 2:
            tracker.to_fail()
    return {"digest": await digest(item), "read": len(await request.body())}


@app.get("/ask")
async def ask(url: str) -> str:
    answers = [await llm_client.get(url), await auth_client.get(url)]
    return " ".join(answer.text for answer in answers)
