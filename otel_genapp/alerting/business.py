"""What users say and how conversations end."""

from __future__ import annotations

from otel_genapp.alerting.promql import Pace, raised, series, usual
from otel_genapp.alerting.rules import Alert, Group, Recording
from otel_genapp.semconv import (
    CONVERSATION_OUTCOMES,
    CONVERSATIONS,
    CRITICAL_REVIEWS,
    FEEDBACK_SCORE,
)

CSAT_SUM, CSAT_COUNT = "genapp:csat_sum:increase1d", "genapp:csat_count:increase1d"
ENDED, ENDED_USUAL = "genapp:conversations:increase2h", "genapp:conversations:usual2h"
ESCALATED, ESCALATED_USUAL = "genapp:escalated:increase2h", "genapp:escalated:usual2h"

CSAT_MIN, CSAT_ENOUGH = 4.0, 5
ESCALATION_FACTOR, ESCALATIONS_ENOUGH = 1.2, 5


def business(pace: Pace) -> Group:
    """Alerts about the business."""
    csat = 'kind="csat"'
    escalated = series(CONVERSATION_OUTCOMES, 'outcome="escalated"')
    return Group("business", (
        Recording(CSAT_SUM, raised(series(FEEDBACK_SCORE, csat, suffix="_sum"), window="1d", pace=pace)),
        Recording(CSAT_COUNT, raised(series(FEEDBACK_SCORE, csat, suffix="_count"), window="1d", pace=pace)),
        Recording(ENDED, raised(series(CONVERSATIONS), window="2h", pace=pace)),
        Recording(ENDED_USUAL, usual(ENDED, pace=pace)),
        Recording(ESCALATED, raised(escalated, window="2h", pace=pace)),
        Recording(ESCALATED_USUAL, usual(ESCALATED, pace=pace)),
        Alert(
            "GenappCsatLow", "warning",
            f"{CSAT_SUM} / {CSAT_COUNT} < {CSAT_MIN}\nand {CSAT_COUNT} >= {CSAT_ENOUGH}", "",
            '{{ $labels.app }} ({{ $labels.env }}): users give {{ $value | printf "%.2f" }} of 5',
            "The mean satisfaction (CSAT) of the last day is under 4.0.",
            "The mean satisfaction of the last day is at least 4.0, or too few users gave a score to tell.",
        ),
        Alert(
            "GenappEscalationsHigh", "warning",
            f"{ESCALATED} / {ENDED} > {ESCALATION_FACTOR} * {ESCALATED_USUAL} / {ENDED_USUAL}\n"
            f"and {ESCALATED} >= {ESCALATIONS_ENOUGH}", "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanizePercentage }} of the conversations escalate",
            "Over 20 % more of them in the last 2 hours than in the same hours of the last days.",
            "The share of the last 2 hours is at most 20 % over that of the same hours of the last days, "
            "or there were too few to tell.",
        ),
        Alert(
            "GenappCriticalReview", "warning",
            raised(series(CRITICAL_REVIEWS), "platform", window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): a critical review on {{ $labels.platform }}",
            "A user gave one of the lowest scores, or used a word of the list, in the last 15 minutes.",
            "No critical review came in the last 15 minutes; those before still want an answer.",
        ),
    ))  # fmt: skip
