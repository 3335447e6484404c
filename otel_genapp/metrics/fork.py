"""What a forked child does with a MeterProvider it inherited: fresh locks, counts from zero.

The SDK's own fork handler keeps every aggregation, with its value and with a lock that another
thread of the parent may hold for ever. Replacing the readers' storages, as the provider's
constructor builds them, drops both.
"""

from __future__ import annotations

import threading
from typing import Any


def restart_counts(provider: Any) -> bool:
    """Give `provider` empty storages. False where the SDK is not as known: nothing was changed."""
    try:
        from opentelemetry.sdk.metrics._internal.metric_reader_storage import (
            MetricReaderStorage,
        )

        consumer = provider._measurement_consumer  # noqa: SLF001
        config = provider._sdk_config  # noqa: SLF001
        storages = {
            reader: MetricReaderStorage(
                config,
                reader._instrument_class_temporality,  # noqa: SLF001
                reader._instrument_class_aggregation,  # noqa: SLF001
            )
            for reader in consumer._reader_storages  # noqa: SLF001
        }
        meters = tuple(provider._meters.values())  # noqa: SLF001
    except (AttributeError, ImportError, TypeError):
        return False
    consumer._lock = threading.Lock()  # noqa: SLF001
    consumer._reader_storages = storages  # noqa: SLF001
    for meter in meters:
        for name in ("_instrument_ids_lock", "_instrument_registration_lock"):
            if hasattr(meter, name):
                setattr(meter, name, threading.Lock())
    return True
