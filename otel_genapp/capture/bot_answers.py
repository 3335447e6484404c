"""Which message of a bot answers what, so that a reaction or a vote on it finds the call that made it.

A vote button carries the correlation id itself, signed with a key derived from the bot's token: it
is understood by other workers and after a restart, and nobody can vote on what he was never shown.
A reaction carries nothing; the messages a process has sent are remembered, the newest ten thousand.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from otel_genapp.context import accepted_id

V = TypeVar("V")

KEPT_MESSAGES = 10_000
VOTE_PREFIX: Final = "gv:"
VOTE_PATTERN: Final = re.compile(r"gv:[01](?::[0-9a-f]{8}:.+)?\Z", re.DOTALL)
"""Data of our buttons; others may begin as ours do."""
_CALLBACK_DATA_MAX_BYTES = 64
_SIGNATURE_DIGITS = 8

_GOOD = frozenset("👍❤🔥🥰👏😁🎉🤩🙏👌😍💯🏆💋🤗🫡😘😎🆒💘🤝⚡🦄")
_BAD = frozenset("👎🤬😢🤮💩🤡🥱💔😡😱🖕😴😭😐🤨")
_VARIATION = "\ufe0f"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a message of the bot belongs to."""

    correlation_id: str | None
    session_id: str | None


class Newest(Generic[V]):
    """The newest `limit` entries by key."""

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = KEPT_MESSAGES) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, key: Hashable, value: V) -> None:
        """Keep `value` under `key`, as the newest; the oldest goes when there are too many."""
        self._entries.pop(key, None)
        self._entries[key] = value
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def get(self, key: Hashable) -> V | None:
        """What is kept under `key`."""
        return self._entries.get(key)

    def take(self, key: Hashable) -> V | None:
        """What is kept under `key`, no longer."""
        return self._entries.pop(key, None)


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote on an answer, 0 to 1; `correlation_id` as the button says it, if it does."""

    quality: float
    correlation_id: str | None = None


def vote_data(quality: int, *, correlation_id: str | None, chat_id: object, key: bytes | None) -> str:
    """The callback data of a vote button: at most 64 bytes, what does not fit is left out."""
    plain = f"{VOTE_PREFIX}{quality}"
    if correlation_id is None or key is None:
        return plain
    full = f"{plain}:{_signature(key, chat_id, correlation_id=correlation_id)}:{correlation_id}"
    return full if len(full.encode()) <= _CALLBACK_DATA_MAX_BYTES else plain


def vote_in(data: object, *, chat_id: object, key: bytes) -> Vote | None:
    """The vote in the callback data of a button; None where it is no vote of ours."""
    if not isinstance(data, str) or VOTE_PATTERN.match(data) is None:
        return None
    quality, _, rest = data.removeprefix(VOTE_PREFIX).partition(":")
    signature, _, said = rest.partition(":")
    correlation_id = accepted_id(said)
    if correlation_id is not None:
        expected = _signature(key, chat_id, correlation_id=correlation_id)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            correlation_id = None
    return Vote(float(quality), correlation_id)


def reaction_quality(new: Iterable[Any], old: Iterable[Any]) -> float | None:
    """What somebody thinks who has changed his reactions: 1, 0, between for both; None: nothing.

    Counted are the emoji that were not there before. Emoji that say neither are not counted.
    """
    before = set(_emoji(old))
    added = [emoji for emoji in _emoji(new) if emoji not in before]
    scores = [1.0 for emoji in added if emoji in _GOOD] + [0.0 for emoji in added if emoji in _BAD]
    return sum(scores) / len(scores) if scores else None


def hashed(value: object, key: str) -> str:
    """Sixteen hexadecimal digits that stand for a chat or user, the same in every process of an app.

    `key` is the setting `user_id_key`, else the app's name. Chat ids are short numbers: who knows the
    name and means to could try them all, which a key of one's own prevents.
    """
    key_bytes = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=32).digest()
    return hashlib.blake2b(str(value).encode(), digest_size=8, key=key_bytes).hexdigest()


def _signature(key: bytes, chat_id: object, *, correlation_id: str) -> str:
    text = f"{chat_id}:{correlation_id}".encode("utf-8", "replace")
    return hashlib.blake2b(text, digest_size=_SIGNATURE_DIGITS // 2, key=key).hexdigest()


def _emoji(reactions: Iterable[Any]) -> list[str]:
    found = (getattr(reaction, "emoji", None) for reaction in reactions or ())
    return [emoji.replace(_VARIATION, "") for emoji in found if isinstance(emoji, str)]
