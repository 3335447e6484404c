"""OpenAI's Responses: typed events, the whole answer once more in the last one."""

from __future__ import annotations

import re

from otel_genapp.capture.llm_wire.openai import openai_usage
from otel_genapp.capture.llm_wire.reading import Json, Reading

_ASKED_FOR = frozenset({
    "function_call", "custom_tool_call", "mcp_call", "computer_call", "local_shell_call", "shell_call",
    "apply_patch_call",
})  # fmt: skip
"""Output items by which the model asks for a tool; the provider's own (`web_search_call`) are not asked of us."""


class ResponsesReading(Reading):
    """A response, or the events of one."""

    LAST = tuple(
        b'"type":%b"response.%b"' % (space, end)
        for end in (b"completed", b"incomplete", b"failed")
        for space in (b"", b" ")
    )
    MARKS = (b'"response.created"', b'"type":"error"', b'"type": "error"')
    TOOL_MARKS = (b'"response.output_item.done"',)
    KEYS = ("id", "model", "status", "usage", "service_tier")
    TOOL_NAME = re.compile(
        rb'(?<!\\)"type"\s*:\s*"(?:function_call|custom_tool_call)"[^{}]*?"name"\s*:\s*"([^"\\]{1,128})"'
    )

    __slots__ = ()

    def frame(self, data: Json) -> None:
        response = data.get("response")
        kind = data.get("type")
        if isinstance(response, dict):
            self._response(response, final=kind in {
                "response.completed", "response.incomplete", "response.failed",
            })  # fmt: skip
        elif kind == "response.output_item.done":
            self._item(data.get("item"))
        elif kind == "error":
            error = data.get("error")
            self.failed(error if isinstance(error, dict) else {"code": data.get("code")})
        elif "output" in data or "status" in data or "error" in data:
            self.body(data)

    def body(self, body: Json) -> None:
        if isinstance(body.get("response"), dict) or "type" in body:
            self.frame(body)
        else:
            self._response(body, final=True)

    def _response(self, response: Json, *, final: bool) -> None:
        if response.get("error"):
            self.failed(response["error"])
        self.identity(response.get("id"))
        self.model(response.get("model"))
        if not final:
            return
        self.tier(response.get("service_tier"))
        status = response.get("status")
        self.reason(0, status)
        if status == "failed" and self.error_type is None:
            self.error_type = "failed"
        output = response.get("output")
        if isinstance(output, list) and output:
            self.outcome.tool_names.clear()  # the whole list replaces what events named
            for item in output:
                self._item(item)
        usage = response.get("usage")
        if isinstance(usage, dict) and usage:
            openai_usage(self.outcome, usage)

    def _item(self, item: object) -> None:
        if isinstance(item, dict) and item.get("type") in _ASKED_FOR:
            self.tool(item.get("name") or item.get("type"))
