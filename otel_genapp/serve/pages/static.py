"""The files that pages need: our style and script, and uPlot's."""

from __future__ import annotations

from pathlib import Path

from otel_genapp.serve.exchange import Reply, Request, json_reply
from otel_genapp.serve.reading import Reading

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HEADERS = (("cache-control", "private, max-age=3600"), ("x-content-type-options", "nosniff"))


def static(request: Request, _reading: Reading) -> Reply:
    """One of them; they say nothing of the application, so anybody may have them."""
    files = {file.name: file for file in _FOLDER.iterdir() if file.suffix in _TYPES}
    file = files.get(request.path["id"])
    if file is None:
        return json_reply(404, {"error": "no such file"})
    return Reply(200, file.read_bytes(), _TYPES[file.suffix], _HEADERS)
