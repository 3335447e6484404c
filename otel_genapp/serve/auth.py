"""Who may use the guarded endpoints: whoever sends one of the tokens in `x-internal-auth`.

Pages are for whoever has given one of them and got a cookie for it. The cookie says until when, signed
with the token, so any worker and any process with the same tokens knows it, and none keeps anything.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from otel_genapp.config import ENVIRONMENT, Settings
from otel_genapp.semconv import HEADER_AUTH
from otel_genapp.state_directory import StateDirectory

COOKIE = "genapp_pages"
COOKIE_S = 12 * 3600
_COOKIE = re.compile(rf"(?:^|;)\s*{COOKIE}=([0-9]{{1,12}})\.([0-9a-f]{{64}})\s*(?=;|$)")
TOKEN_FILE = "internal-auth"  # noqa: S105 - the name of a file, not a token

# As long as a configured token may be. What is longer is not hashed: a header may have megabytes.
_MAX_TOKEN_BYTES = 1024
_MAX_COOKIES = 16_384

logger = logging.getLogger("otel_genapp")


@dataclass(frozen=True, slots=True)
class Gate:
    """Says of a request's auth headers whether they are right; `Gate.open` makes one.

    `closed` is True where nobody can be let in, so that the guarded endpoints are better not there
    at all; `reason` says for people which tokens count, or why the gate is closed. A gate keeps
    digests only: no token can be read from it.
    """

    closed: bool
    reason: str
    _digests: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def open(cls, settings: Settings, state: StateDirectory) -> Gate:
        """The gate of `settings`; never raises.

        Without a token in `settings`, dev gets one that is generated, kept in `state` for all
        workers, and logged once by the worker that made it; preprod and prod stay closed.
        """
        if settings.internal_auth:
            reason = f"{len(settings.internal_auth)} configured token(s)"
            tokens = tuple(token.encode("utf-8", "surrogatepass") for token in settings.internal_auth)
            return cls(closed=False, reason=reason, _digests=_digests_of(tokens))
        if settings.env != "dev":
            reason = (
                f"no token is configured for {settings.env}; "
                f"set {ENVIRONMENT['internal_auth']} (or internal_auth)"
            )
            return cls(closed=True, reason=reason)
        token, reason = _dev_token(state)
        return cls(closed=False, reason=reason, _digests=_digests_of((token,)))

    def admits(self, header_values: Sequence[bytes]) -> bool:
        """Whether the request carries the header exactly once and with a valid token; never raises."""
        value = header_values[0] if len(header_values) == 1 else b""
        if not value or len(value) > _MAX_TOKEN_BYTES:
            return False
        digest = hashlib.sha256(value).digest()
        admitted = False
        for known in self._digests:  # all of them: the time must not tell which one was close
            admitted |= hmac.compare_digest(known, digest)
        return admitted

    def log_in(self, token: str) -> str | None:
        """The value of the cookie for somebody who gave this token, or None."""
        value = token.strip().encode("utf-8", "surrogatepass")
        if not self.admits((value,)):
            return None
        until = str(int(time.time()) + COOKIE_S)
        return f"{until}.{_signature(hashlib.sha256(value).digest(), until)}"

    def knows(self, cookies: str) -> bool:
        """Whether the cookies of a request have a login that is still good; never raises."""
        known = False
        for until, signature in _COOKIE.findall(cookies[:_MAX_COOKIES]):
            for digest in self._digests:
                is_signed = hmac.compare_digest(_signature(digest, until), signature)
                known |= is_signed and time.time() < int(until)
        return known


def _signature(key: bytes, until: str) -> str:
    return hmac.new(key, f"{COOKIE} {until}".encode("ascii"), hashlib.sha256).hexdigest()


def _digests_of(tokens: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(token).digest() for token in tokens)


def _dev_token(state: StateDirectory) -> tuple[bytes, str]:
    """(token, what to tell people about it)."""
    generated = secrets.token_urlsafe(32).encode("ascii")
    kept = state.claim_private(TOKEN_FILE, generated)
    token = kept.strip() if kept is not None else b""
    if kept is not None and token != generated and _is_token(token):
        place = f"the dev token in {_path(state)}"
        logger.warning("internal_auth is not set: the header %s takes %s", HEADER_AUTH, place)
        return token, place
    if token == generated:
        place = f"a generated dev token, kept in {_path(state)}"
    else:
        broken = state.problem if kept is None else f"{_path(state)} holds no token; remove it"
        place = f"a generated dev token of this process alone, because {broken}"
    logger.warning(
        "internal_auth is not set: send %s in the header %s (%s)",
        generated.decode("ascii"),
        HEADER_AUTH,
        place,
    )
    return generated, place


def _is_token(token: bytes) -> bool:
    return 0 < len(token) <= _MAX_TOKEN_BYTES and token.isascii() and token.decode("ascii").isprintable()


def _path(state: StateDirectory) -> str:
    return str(state.path / TOKEN_FILE) if state.path is not None else TOKEN_FILE
