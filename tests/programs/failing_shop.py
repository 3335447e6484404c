"""A service that fails while it is told to, for tests of the alerting: `failing_shop.py FD`."""

from __future__ import annotations

import socket
import sys

import uvicorn
from fastapi import FastAPI, HTTPException

from otel_genapp import init_telemetry

app = FastAPI()


@app.get("/order")
async def order(fails: bool = False) -> str:
    if fails:
        raise HTTPException(500)
    return "ordered"


if __name__ == "__main__":
    init_telemetry("shop", env="prod", app=app, internal_auth="test")
    listening = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(app, log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])
