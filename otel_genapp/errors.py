"""Errors a caller can meet, all of them at configuration time.

    GenappError
    ├── ConfigError(ValueError)               a setting that cannot work; names the value and the remedy
    ├── AlreadyConfiguredError(RuntimeError)  init_telemetry called again with other arguments
    ├── StoreError(RuntimeError)              a store of another version, or one that can never work
    └── MissingDependencyError(ImportError)   an optional library is absent; carries the pip command

After `init_telemetry` has returned, nothing in this package raises on its own account.
"""

from __future__ import annotations


class GenappError(Exception):
    """Parent of every error this package raises."""


class ConfigError(GenappError, ValueError):
    """A setting cannot work. The message names the value seen and what to write instead."""


class AlreadyConfiguredError(GenappError, RuntimeError):
    """`init_telemetry` is already running with other arguments; call `shutdown()` first."""


class StoreError(GenappError, RuntimeError):
    """A store cannot be used as it is. The message names what was found and the remedy."""


class MissingDependencyError(GenappError, ImportError):
    """An optional library is not installed. The message is the command that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library!r} is not installed. Run: pip install 'otel-genapp[{extra}]'")
        self.library = library
        self.extra = extra
