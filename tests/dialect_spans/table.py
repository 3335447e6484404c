"""All of them."""

from __future__ import annotations

from tests.dialect_spans.conventional_frameworks import CONVENTIONAL_FRAMEWORKS
from tests.dialect_spans.conventions import CONVENTIONS
from tests.dialect_spans.openinference import OPENINFERENCE
from tests.dialect_spans.openllmetry import TRACELOOP
from tests.dialect_spans.platforms import PLATFORMS
from tests.dialect_spans.pydantic import PYDANTIC
from tests.dialect_spans.vercel import VERCEL

DIALECT_SPANS = (
    *CONVENTIONS, *CONVENTIONAL_FRAMEWORKS, *TRACELOOP, *OPENINFERENCE, *PYDANTIC, *VERCEL, *PLATFORMS,
)  # fmt: skip
