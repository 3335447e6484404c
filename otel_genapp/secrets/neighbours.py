"""Secrets that only their surroundings give away: a name, a URL, a scheme beside them."""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Literal

from otel_genapp.secrets.values import FRAGMENT, REDACTED, is_random, is_value

PORT = re.compile(r"\d{0,5}|\{[^{}]*\}")
"""What may follow a host's colon: a port, or its place in a template."""

_CERTAIN = (
    r"passw(?:or)?d|passphrase|passcode|pwd|bearer|jsessionid|phpsessid|x[_-]?internal[_-]?auth|api[_ -]?key"
    r"|(?:access|account|private|secret|shared|signing|encryption|master|subscription|functions?"
    r"|storage|license|service|webhook|client|session|auth|hmac|jwt|app)[_-]?key"
    r"|(?:client|app|shared|webhook|jwt|api|consumer|session|signing|oauth)[_-]?secret"
    r"|(?:access|refresh|id|auth|bearer|session|bot|csrf|xsrf|oauth|security|api|personal|secret"
    r"|deploy|registration|reset|verification)[_-]?token"
)
_LIKELY = r"token|secret|credentials?|authorization|signature|(?<![a-z])(?:auth|sig)"
_NUMBER = r"(?:[_-]?\d{1,2}(?!\d))?"
_WHOLE = r"(?:set[_-])?cookies?|otp|pin|pw|cvv|cvc"
"""Names as whole words only, and beside a value of their own only: text is full of them."""
_SECRET_NAME = re.compile(
    rf"(?:(?P<certain>{_CERTAIN}|authorization|(?:^|[._-])(?:{_WHOLE}))|(?P<likely>{_LIKELY})){_NUMBER}$",
    re.IGNORECASE | re.ASCII,
)
_NAME_ENDS = (
    "key", "secret", "token", "auth", "authorization", "credential", "credentials", "signature", "sig",
    "password", "passwd", "pwd", "passphrase", "passcode", "bearer", "sessionid", "sessid",
)  # fmt: skip
_ASSIGNMENT = re.compile(rf"{_NUMBER}(?:%3d|(?:\\{{0,3}}[\"'])?\s{{0,4}}[:=]|\\?[\"']\s{{0,4}},)", re.ASCII)
_PAIR = re.compile(
    rf"(?:(?P<certain>{_CERTAIN})|(?P<likely>{_LIKELY})){_NUMBER}"
    r"(?:(?P<machine>=|%3d)"
    r"|(?:\\{0,3}[\"'])?\s{0,4}(?::=?|=>?)\s{0,4}"
    r"|\\?[\"']\s{0,4}(?P<listed>,)\s{0,4}(?=b?\\?[\"']))"
    r"(?:\\{1,3}[\"'](?P<escaped>[^\"'\\\r\n]*+)"
    r"|b?\"(?P<double>[^\"\\\r\n]*+(?:\\.[^\"\\\r\n]*+)*+)"
    r"|b?'(?P<single>[^'\\\r\n]*+(?:\\.[^'\\\r\n]*+)*+)"
    r"|(?P<scheme>(?:bearer|basic|token|digest|negotiate|api-?key|key|bot)\s{1,4}(?![\"']))?"
    r"(?P<bare>[^\s\"'&,;]++))",
    re.IGNORECASE | re.ASCII,
)
_USERINFO = re.compile(r"://(?!/)((?:[^\s\"'<>`/?#:]|:(?!//))++)")
_SLASHED_USERINFO = re.compile(
    # What follows the colon is no port but a password with a `/`, `?` or `#` in it.
    r"://([^\s\"'<>`/?#:@]{0,64}+:(?!\d{0,5}(?:[/?#\s]|\Z)|\{)[^\s\"'<>`@]{1,256}+)@"
)
_TELEGRAM = re.compile(
    # Capitals and small letters: a UUID or a digest after a number has one of them.
    r"[0-9]{6,12}(?::|%3[Aa])(?=[a-z0-9_-]*+[A-Z])(?=[A-Z0-9_-]*+[a-z])[A-Za-z0-9_-]{30,}+"
)
_BOT_PATH = re.compile(r"/bot(\d{1,20}(?::|%3[Aa])[^\s/?#\"'<>]++)", re.IGNORECASE | re.ASCII)
_WEBHOOK = re.compile(r"(?:/services/T\w{6,20}/B\w{6,20}/|/webhooks/\d{15,24}/)([\w-]{16,}+)", re.ASCII)
_BEARER = re.compile(
    r"bearer(?:[ \t]{1,4}|[ \t]{0,4}[:=][ \t]{0,4}|%20|\+)\\?[\"']?([A-Za-z0-9._~+/=-]{8,}+)",
    re.IGNORECASE | re.ASCII,
)
_BASIC = re.compile(r"basic(?:[ \t]{1,4}|%20|\+)([A-Za-z0-9+/=_-]{6,}+)", re.IGNORECASE | re.ASCII)
_COOKIE = re.compile(
    r"cookie\\?[\"']?[ \t]{0,4}[:=,][ \t]{0,4}b?\\?[\"']?"
    r"(?=[^\s=;,\[]{1,128}=)([^\r\n\"'\\]{3,}+)",
    re.IGNORECASE | re.ASCII,
)
_PARAMETER = re.compile(
    r"[?&;](?:amp;|u0026)?(?:key|code|token|sig|auth|apikey|(?:x-(?:amz|goog|oss)-)?(?:signature|credential)"
    r"|awsaccesskeyid|googleaccessid|ticket|assertion)(?:=|%3d)([^\s&\"'<>#;\\]++)",
    re.IGNORECASE | re.ASCII,
)


def without_neighbours(text: str) -> str:
    """`text` without what is a secret because of what stands beside it."""
    lowered = text.lower()
    if ":" in text or "=" in text or "%3" in lowered or "," in text:
        text = _without_assigned(text, lowered)
    if "/services/T" in text or "/webhooks/" in text:
        text = _WEBHOOK.sub(_replace_group, text)
    if "bearer" in lowered:
        text = _BEARER.sub(_replace_bearer, text)
    if "basic" in lowered:
        text = _BASIC.sub(_replace_basic, text)
    return text


@lru_cache(maxsize=2048)
def kind_of_name(name: str) -> Literal["certain", "likely", ""]:
    """Whether the value beside `name` is a secret: `password` certainly, `token` if it looks random."""
    found = _SECRET_NAME.search(name[-64:])
    if found is None:
        return ""
    return "likely" if found["likely"] else "certain"


def _without_assigned(text: str, lowered: str) -> str:
    if "://" in text:
        text = _SLASHED_USERINFO.sub(_replace_group, _USERINFO.sub(_replace_userinfo, text))
    if "/bot" in lowered:
        text = _BOT_PATH.sub(_replace_group, text)
    text = _TELEGRAM.sub(REDACTED, text)
    if "cookie" in lowered:
        text = _COOKIE.sub(_replace_group, text)
    if _assigns_secret(lowered):
        text = _without_pairs(text)
    if "?" in text or "&" in text or ";" in text:
        text = _PARAMETER.sub(_replace_parameter, text)
    return text


def _assigns_secret(lowered: str) -> bool:
    """Whether `_PAIR` can match: it is the dearest of the patterns, and its words are common in prose."""
    for end in _NAME_ENDS:
        position = lowered.find(end)
        while position >= 0:
            position += len(end)
            if _ASSIGNMENT.match(lowered, position):
                return True
            position = lowered.find(end, position)
    return False


def _replace_group(found: re.Match[str], group: int | str = 1) -> str:
    whole, offset = found[0], found.start()
    return f"{whole[: found.start(group) - offset]}{REDACTED}{whole[found.end(group) - offset :]}"


def _replace_userinfo(found: re.Match[str]) -> str:
    authority = found[1]
    userinfo, separator, _ = authority.rpartition("@")
    if not separator or userinfo in {REDACTED, "git"}:
        return found[0]
    return f"://{REDACTED}{authority[len(userinfo) :]}"


def _without_pairs(text: str) -> str:
    """`text` without the secrets that stand beside a name."""
    parts: list[str] = []
    done = position = 0
    # What is no secret may hold one ("token: password=…") and is looked through again. Text made to
    # be looked through again and again loses the rest of its values instead.
    patience = 8 * len(text)
    while (found := _PAIR.search(text, position)) is not None:
        group = next(name for name in ("escaped", "double", "single", "bare") if found[name] is not None)
        start, end = found.span(group)
        if patience > 0 and not _is_secret_pair(found, found[group]):
            patience -= end - start
            position = max(start, found.start() + 1)
            continue
        if group == "bare" and not found[group].endswith(REDACTED):
            end -= len(found[group]) - len(found[group].rstrip(")]}>"))
        parts += (text[done:start], REDACTED)
        done = position = max(end, start)
    return "".join([*parts, text[done:]]) if parts else text


def _is_secret_pair(found: re.Match[str], value: str) -> bool:
    if not is_value(value):
        return False
    if found["listed"] is None and (found["certain"] is not None or found["scheme"] is not None):
        return True
    assigned = found["machine"] is not None and len(value) >= 8 and not value.isdigit()
    return assigned or is_random(value)


def _replace_parameter(found: re.Match[str]) -> str:
    value = found[1]
    is_secret = len(value) >= 6 and not value.isdigit() and not value.startswith(FRAGMENT)
    return _replace_group(found) if is_secret else found[0]


def _replace_bearer(found: re.Match[str]) -> str:
    return _replace_group(found) if is_random(found[1]) else found[0]


def _replace_basic(found: re.Match[str]) -> str:
    return _replace_group(found) if _is_user_and_password(found[1]) else found[0]


def _is_user_and_password(encoded: str) -> bool:
    """Whether the Base64 begins with printable text and a colon; words do not, nor does what follows."""
    encoded = encoded[:128].rstrip("=").replace("-", "+").replace("_", "/")
    encoded += "=" * (-len(encoded) % 4)
    for start in range(0, len(encoded), 4):
        try:
            decoded = base64.b64decode(encoded[start : start + 4], validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            return False
        if not decoded.isprintable():
            return False
        if ":" in decoded:
            return True
    return False
