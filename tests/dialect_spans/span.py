"""Spans as the instrumentations in use make them, and what each of them says.

`start` is given when the span starts, `late` is set while the call runs, `end` when it is over. Names
and shapes are those of the versions named; texts and numbers are made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.pipeline.dialects import Facts, SpanClass
from otel_genapp.records import Usage


@dataclass(frozen=True)
class DialectSpan:
    """One span and what is to be read from it."""

    id: str
    scope: str
    span_class: SpanClass | None
    facts: Facts
    start: Mapping[str, Any] = field(default_factory=dict)
    late: Mapping[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """All it says."""
        return {**self.start, **self.late, **self.end}


def facts(usage: Usage = Usage(), **said: Any) -> Facts:
    """The facts of a span that says nothing else."""
    return Facts(**{"provider": None, "model": None, "operation": None, **said}, usage=usage)


def tool_messages(*names: str) -> str:
    """An answer that calls these tools, as `gen_ai.output.messages` has it."""
    parts = [{"type": "tool_call", "id": f"t{name}", "name": name, "arguments": {}} for name in names]
    return json.dumps([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}])
