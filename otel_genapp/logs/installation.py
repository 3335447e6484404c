"""What every telemetry does to `logging`: the ids in force on every record, and no secret in what clients log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from otel_genapp.logs.fields import FIELDS, fields_with
from otel_genapp.logs.redaction import RedactSecrets
from otel_genapp.quiet import quiet
from otel_genapp.secrets import clean_urls_in

_HTTP_LOGGERS = ("httpx", "httpx2")
_BOT_LOGGERS = (
    *("aiogram.dispatcher", "aiogram.event", "aiogram.middlewares", "aiogram.webhook", "aiogram.scene"),
    *("telegram", "telegram.Bot", "telegram.request.BaseRequest", "telegram.request.HTTPXRequest"),
    *("telegram.ext", "telegram.ext.Application", "telegram.ext.ExtBot", "telegram.ext.Updater"),
    *("telegram.ext.ConversationHandler", "telegram.ext.JobQueue", "telegram.ext.AIORateLimiter"),
)
"""Where libraries of bots log errors whose text is a URL with the bot's token in it."""
_guarded = quiet("context")

RecordFactory = Callable[..., logging.LogRecord]


class _CleanUrls(logging.Filter):
    """httpx logs each request with its full URL; the query often is a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        with _guarded:
            if isinstance(record.args, tuple):
                record.args = tuple(_clean_url_argument(argument) for argument in record.args)
            if isinstance(record.msg, str):
                record.msg = clean_urls_in(record.msg)
        return True


class _Fields(dict[str, Any]):
    """The attributes of a record, where ours do not count as taken.

    `Logger.makeRecord` refuses an `extra` whose names are attributes already; an application that
    passes its own `session_id` would meet a KeyError.
    """

    def __contains__(self, key: object) -> bool:
        return key not in FIELDS and super().__contains__(key)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled record is read by processes that may not have this package.
        return dict, (dict(self),)


class _ContextFactory:
    """Makes records by the factory before it and gives them the ids in force."""

    def __init__(self, previous: RecordFactory) -> None:
        self.previous = previous
        self.active = True

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.previous(*args, **kwargs)
        if self.active and type(record.__dict__) is not _Fields:  # one of ours below did it already
            with _guarded:
                fields = _Fields.fromkeys(FIELDS, "")
                fields.update(fields_with(record.exc_info))
                fields.update(vars(record))
                record.__dict__ = fields
        return record


def install_logging() -> Callable[[], None]:
    """Give every record of `logging` the attributes of `FIELDS`, and clean the URLs httpx and bots log.

    Returns the call that takes it all back. Where somebody has put a factory of his own on top of
    ours meanwhile, ours stays below it and passes records through.
    """
    factory = _ContextFactory(logging.getLogRecordFactory())
    logging.setLogRecordFactory(factory)
    filters: dict[str, logging.Filter] = {
        **dict.fromkeys(_HTTP_LOGGERS, _CleanUrls()),
        **dict.fromkeys(_BOT_LOGGERS, RedactSecrets()),
    }
    for name, cleaning in filters.items():
        logging.getLogger(name).addFilter(cleaning)

    def undo() -> None:
        factory.active = False
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(_below(factory))
        for name, cleaning in filters.items():
            logging.getLogger(name).removeFilter(cleaning)

    return undo


def _below(factory: _ContextFactory) -> RecordFactory:
    """The next factory that is not one of ours already taken back."""
    below = factory.previous
    while isinstance(below, _ContextFactory) and not below.active:
        below = below.previous
    return below


def _clean_url_argument(argument: object) -> object:
    """Text and the URL objects of the HTTP libraries; numbers keep their type for `%d`."""
    if isinstance(argument, str):
        return clean_urls_in(argument)
    return clean_urls_in(str(argument)) if type(argument).__name__ == "URL" else argument
