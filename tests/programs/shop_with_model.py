"""A Flask application whose requests call a model, for servers with several workers."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import httpx
import openai
from flask import Flask, request

from otel_genapp import bind, init_telemetry

MODEL_URL = os.environ["MODEL_URL"]

app = Flask(__name__)
telemetry = init_telemetry("shop", "prod", internal_auth="test", app=app)
client = httpx.Client(timeout=10)
sdk = openai.OpenAI(base_url=MODEL_URL, api_key="none", max_retries=2, timeout=10)


@app.get("/ask")
def ask() -> dict[str, Any]:
    """One call to the model, of the kind that is asked for, in a session of its own."""
    kind, session = request.args["kind"], request.args["id"]
    body: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "How long is the coast?"}],
    }
    with bind(session_id=session):
        if kind == "retried":
            sdk.chat.completions.create(**body)
        elif kind in {"stream", "cancel"}:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            with (
                client.stream("POST", f"{MODEL_URL}/chat/completions", json=body) as answer,
                suppress(StopIteration),
            ):
                chunks = answer.iter_bytes(64)
                next(chunks)
                if kind == "stream":
                    for _ in chunks:
                        pass
        else:
            client.post(f"{MODEL_URL}/chat/completions", json=body)
    return {"worker": os.getpid()}
