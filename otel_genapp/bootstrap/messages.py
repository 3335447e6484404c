"""What a telemetry does with conversations beside keeping them: it counts what happened, and logs each message."""

from __future__ import annotations

from collections.abc import Callable

from otel_genapp.ledger.conversations import Happened, Listener
from otel_genapp.ledger.store import Store
from otel_genapp.logs import log_message_processed
from otel_genapp.metrics.conversations import count_happened
from otel_genapp.metrics.instruments import Instruments
from otel_genapp.pipeline.turns import Turns
from otel_genapp.quiet import quiet
from otel_genapp.records import Message, Record, UsageRecord

_HOUR_NS = 3600 * 10**9
_guarded = quiet("pipeline")


class Messages:
    """Told of every folded record, in order, and by the store of what new records made happen."""

    def __init__(
        self,
        instruments: Instruments,
        store: Store,
        *,
        count_stored: Callable[[int], None],
        repeat_hours: int,
    ) -> None:
        self._instruments = instruments
        self._turns = Turns()
        store.conversations.listen(Listener(self._happened, count_stored, repeat_hours * _HOUR_NS))

    def see(self, record: Record) -> None:
        """Remember what LLM calls took, and log a message with what its calls took."""
        if isinstance(record, UsageRecord):
            self._turns.add(record)
        elif isinstance(record, Message):
            turn = self._turns.take(record)
            with _guarded:
                log_message_processed(
                    record,
                    response_time_ms=turn.elapsed_ms
                    if record.response_time_ms is None
                    else record.response_time_ms,
                    tokens=turn.tokens,
                    cost_usd=turn.cost_usd,
                )

    def forget(self) -> None:
        """Know nothing of earlier turns; for the child of a fork."""
        self._turns.forget()

    def _happened(self, happened: Happened) -> None:
        with _guarded:
            count_happened(self._instruments, happened)
