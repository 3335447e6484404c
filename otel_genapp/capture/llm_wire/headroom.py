"""What an answer's headers say is left of a provider's rate limits.

OpenAI and those who answer like it send `x-ratelimit-{limit,remaining}-{requests,tokens}`, Anthropic
`anthropic-ratelimit-{requests,tokens}-{limit,remaining}`. `Retry-After` says how long to wait, but
not for which limit: it makes no level.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from otel_genapp import semconv
from otel_genapp.hub import Hub

_NAMES = tuple(
    (kind, limit, remaining)
    for kind in ("requests", "tokens")
    for limit, remaining in (
        (f"x-ratelimit-limit-{kind}", f"x-ratelimit-remaining-{kind}"),
        (f"anthropic-ratelimit-{kind}-limit", f"anthropic-ratelimit-{kind}-remaining"),
    )
)
"""Kind of limit, and the headers that say how much it is and how much is left."""
_DIGITS_LIMIT = 15
"""Longer numbers are no limits, and would not be exact as a float."""


def headroom(headers: Mapping[str, bytes]) -> dict[str, float]:
    """The part that is left, 0 to 1, by kind of limit; what is missing or makes no sense is left out.

    `headers` are those of one answer by their lower-case names.
    """
    found = {}
    for kind, limit_name, remaining_name in _NAMES:
        if limit_name not in headers or remaining_name not in headers:
            continue
        limit, remaining = _whole(headers[limit_name]), _whole(headers[remaining_name])
        if limit and remaining is not None:
            # Anthropic rounds what remains, to more than there is at times.
            found[kind] = min(remaining / limit, 1.0)
    return found


def show_headroom(running: Hub, provider: str, *, headers: Mapping[str, bytes]) -> None:
    """Have `genapp_rate_limit_remaining_ratio` show what an answer of `provider` says."""
    found = headroom(headers)
    if found:
        # The last answer that tells of the same limits tells all there is to know.
        by_labels = partial(_labelled, provider, found)
        running.levels.set_later(semconv.RATE_LIMIT_REMAINING, (provider, *found), values=by_labels)


def _labelled(provider: str, found: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(provider, kind): ratio for kind, ratio in found.items()}


def _whole(text: bytes) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() and len(text) <= _DIGITS_LIMIT else None
