"""What a secret looks like, and text and URLs without it.

Ground floor: the id check, the label guard, the logs and the redaction of spans all use these
forms, so that one added here is gone from every sink at once.

A form is looked for only where a literal part of it occurs. Every pattern is a literal followed
by runs that are bounded or possessive, and whether a run is a secret is decided afterwards in
Python: the time grows with the length of the text, whatever the text is.
"""

from __future__ import annotations

from otel_genapp.secrets.neighbours import kind_of_name
from otel_genapp.secrets.text import (
    beginning_without_secrets,
    looks_secret,
    without_secret_value,
    without_secrets,
)
from otel_genapp.secrets.url import clean_path, clean_url, clean_urls_in
from otel_genapp.secrets.values import REDACTED

__all__ = [
    "REDACTED",
    "beginning_without_secrets",
    "clean_path",
    "clean_url",
    "clean_urls_in",
    "kind_of_name",
    "looks_secret",
    "without_secret_value",
    "without_secrets",
]
