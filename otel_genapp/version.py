"""The version, once: packaging and `otel_genapp.__version__` read it here."""

from __future__ import annotations

__version__ = "0.1.0"
