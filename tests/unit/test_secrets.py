from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_genapp.secrets import (
    REDACTED,
    beginning_without_secrets,
    clean_path,
    clean_url,
    clean_urls_in,
    kind_of_name,
    looks_secret,
    without_secret_value,
    without_secrets,
)
from tests.canary import FORMS, HEX_KEYS, SECRETS, benign, canaries, found_in

MANY = tuple(canaries(seed=7, rounds=40))

PLACES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "alone": (str, without_secrets),
    "in a sentence": (lambda text: f"failed with {text} in it", without_secrets),
    "on a line of its own": (lambda text: f"first\n{text}\nlast", without_secrets),
    "in the repr of lines": (lambda text: repr(f"first\n{text}\nlast"), without_secrets),
    "in a repr": (lambda text: repr({"headers": [(b"x", text.encode())]}), without_secrets),
    "in JSON": (lambda text: json.dumps({"said": text, "n": 1}), without_secrets),
    "in JSON in JSON": (lambda text: json.dumps(json.dumps({"said": text})), without_secrets),
    "percent-encoded": (lambda text: f"target {quote(text, safe='')} gone", without_secrets),
    "in a path": (lambda text: f"/v1/{text}/items", clean_path),
    "in an encoded path": (lambda text: f"/v1/{quote(text, safe='')}/items", clean_path),
    "in the path of a URL": (lambda text: f"https://host/v1/{quote(text, safe='')}", clean_url),
    "in a query": (lambda text: f"https://host/v1?a={quote(text, safe='')}", clean_url),
    "in a fragment": (lambda text: f"https://host/v1#{text}", clean_url),
    "as a password": (lambda text: f"https://user:{quote(text, safe='')}@host/v1", clean_url),
    "as a raw password": (lambda text: f"https://user:{text}@host/v1", clean_url),
    "as a user": (lambda text: f"https://{quote(text, safe='')}@host/v1", clean_url),
    "in a URL in text": (lambda text: f"for url 'https://host/v1?x={quote(text)}'!", clean_urls_in),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_form_survives(place: str) -> None:
    """Of 40 secrets of each of 50 forms none is left, wherever it stands."""
    plant, clean = PLACES[place]
    left = [canary for canary in MANY if canary.core in clean(plant(canary.text))]
    assert left == []


def test_every_form_is_seen() -> None:
    """Each planted secret is refused as an id."""
    assert [canary for canary in MANY if not looks_secret(canary.text)] == []


def test_the_canaries_are_what_they_promise() -> None:
    """There are 200 different secrets of 50 forms on one line each, and each finds itself."""
    assert (len(set(SECRETS)), len(FORMS), len(set(HEX_KEYS))) == (200, 50, 20)
    assert all(secret.isascii() and secret.isprintable() for secret in SECRETS)
    assert [found_in(f"<{secret}>".encode()) for secret in SECRETS] == [[secret] for secret in SECRETS]
    assert found_in(f"nothing but {HEX_KEYS[3]}") == [HEX_KEYS[3]]


def test_a_cut_shows_no_half_of_a_secret() -> None:
    """Wherever the beginning of a text ends, what is shown of it holds no part of the password."""
    url = "postgresql://shop:Tr0ub4dor-and-3-horses@db/shop"
    for before in range(120):
        shown = beginning_without_secrets("x" * before + " see " + url + " and more", 100)
        assert len(shown) <= 100
        assert "Tr0ub" not in shown
    assert beginning_without_secrets("short", 100) == "short"


def test_bare_hex_goes_except_from_our_ids() -> None:
    """Hexadecimal of 32 digits and more is a secret in text, and none as an id."""
    assert {without_secrets(f"key {digits}.") for digits in HEX_KEYS} == {f"key {REDACTED}."}
    assert [digits for digits in HEX_KEYS if looks_secret(digits)] == []
    assert [without_secrets(digits, keep_hex=True) for digits in HEX_KEYS] == list(HEX_KEYS)


def test_ids_are_accepted() -> None:
    """Trace ids, UUIDs and what people use for correlation look like no secret."""
    ids = [
        uuid.UUID(int=2**127 + 7).hex, str(uuid.UUID(int=2**127 + 7)), "01JD3Z8Q6W5T4R3E2W1Q0P9O8N",
        "req-8fJ2kdl:99", "tg:123456789:42", "2026-11-21T10:00:00.000Z", "task-0123456789abcdef0123",
        f"7712345678:{uuid.UUID(int=5)}", "chatcmpl-9KjSDh2jkDs8Hd2kD9sl3Kd7Sj2kl", "user.name_1", "sk-SK",
    ]  # fmt: skip
    assert [identifier for identifier in ids if looks_secret(identifier)] == []


def test_benign_values_stay() -> None:
    """At most one in a thousand of 24,000 values that spans and logs carry is touched."""
    values = list(benign(seed=3, number=24_000))
    touched = [value for value in values if without_secrets(value) != value or looks_secret(value)]
    assert len(touched) <= len(values) // 1000, touched[:5]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("password=hunter2, user=ann", f"password={REDACTED}, user=ann"),
        ("Settings(password=hunter2)", f"Settings(password={REDACTED})"),
        ("{'password': 'it\\'s', 'user': 'ann'}", f"{{'password': '{REDACTED}', 'user': 'ann'}}"),
        ('{"password":"a b","n":1}', f'{{"password":"{REDACTED}","n":1}}'),
        (r"{\"api_key\": \"a b\", \"n\": 1}", rf"{{\"api_key\": \"{REDACTED}\", \"n\": 1}}"),
        ("OPENAI_API_KEY_2=abc", f"OPENAI_API_KEY_2={REDACTED}"),
        ("('x-api-key', 'abc1defg')", f"('x-api-key', '{REDACTED}')"),
        ("Authorization: Digest abc", f"Authorization: Digest {REDACTED}"),
        ("Cookie: sid=1; theme=dark\r\nHost: a", f"Cookie: {REDACTED}\r\nHost: a"),
        ("postgres://u:p/w@h/db", f"postgres://{REDACTED}@h/db"),
        ("git clone ssh://git@github.com/a/b", "git clone ssh://git@github.com/a/b"),
        ("GET /bot12:short/getMe", f"GET /bot{REDACTED}/getMe"),
        ("password=********", "password=********"),
        ("password: required", "password: required"),
        ("password=${DB_PASSWORD}", "password=${DB_PASSWORD}"),
        ("session_key=abc, bearer: 'abc'", f"session_key={REDACTED}, bearer: '{REDACTED}'"),
        ('{"token_type":"bearer","expires_in":3600}', '{"token_type":"bearer","expires_in":3600}'),
        ("pin=abc, otp: 1234, pw=x, cvc: 123", "pin=abc, otp: 1234, pw=x, cvc: 123"),
        ("max_tokens=512, 'token': ' world'", "max_tokens=512, 'token': ' world'"),
        ("Basic understanding, bearer of news", "Basic understanding, bearer of news"),
        ("/services/T0001AB/B0002CD/" + "aB3" * 8, f"/services/T0001AB/B0002CD/{REDACTED}"),
    ],
)
def test_the_rest_of_the_text_stays(text: str, clean: str) -> None:
    """Only the secret is replaced."""
    assert without_secrets(text) == clean


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("", ""),
        ("*", "*"),
        ("https://u:p@api.x.com:8443/v1/{id}/?k=1#f", "https://api.x.com:8443/v1/{id}/"),
        ("HTTP://[::1]:80/x?", "HTTP://[::1]:80/x"),
        ("http://h:{port}/{path}", "http://h:{port}/{path}"),
        ("http://h?x=a@b", "http://h"),
        ("http://u:12?34@h/x", f"http://{REDACTED}"),
        ("http://u:p?w@h/x", f"http://{REDACTED}"),
        ("http://u:p#w@h/x", f"http://{REDACTED}"),
        ("postgres://u:p/w@h/db", f"postgres://{REDACTED}/h/db"),
        ("//u:p@h/x?y", "//h/x"),
        ("u:p@h/x?y", "h/x"),
        ("localhost:8080/x?y", "localhost:8080/x"),
        ("mailto:ann@x.com?subject=y", "mailto:ann@x.com"),
        ("/v1/items/12?key=1", "/v1/items/12"),
        ("/v1/4bf92f3577b34da6a3ce929d0e0e4736/x", f"/v1/{REDACTED}/x"),
        ("/v1/550e8400-e29b-41d4-a716-446655440000", "/v1/550e8400-e29b-41d4-a716-446655440000"),
        ("https://api.telegram.org/bot12%3Ashort/getMe", f"https://api.telegram.org/bot{REDACTED}/getMe"),
        ("https://x/invite/" + "aB3" * 11, f"https://x/invite/{REDACTED}"),
        ("not a url at all?x=1", "not a url at all"),
    ],
)
def test_what_stays_of_a_url(url: str, clean: str) -> None:
    """Scheme, host, port and path stay, and what is no URL is cleaned as a path."""
    assert clean_url(url) == clean


def test_urls_in_text_lose_their_query() -> None:
    """The message of an HTTP library keeps everything but the query of its URL."""
    message = "Client error '401 Unauthorized' for url 'https://u:p@h/v1?key=abc'\nFor more: http://d/401#x"
    assert clean_urls_in(message) == (
        "Client error '401 Unauthorized' for url 'https://h/v1'\nFor more: http://d/401"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("password", "certain"), ("db.Password", "certain"), ("http.request.header.x-api-key", "certain"),
        ("OPENAI_API_KEY", "certain"), ("set-cookie", "certain"), ("authorization", "certain"),
        ("x_internal_auth", "certain"), ("accessToken", "certain"), ("token", "likely"), ("x-signature", "likely"),
        ("gen_ai.usage.input_tokens", ""), ("session.id", ""), ("cache_key", ""), ("author", ""), ("design", ""),
        ("http.route", ""), ("token_count", ""), ("password_reset_url", ""),
        ("bearer", "certain"), ("auth.Bearer", "certain"), ("session_key", "certain"), ("sessionKey", "certain"),
        ("otp", "certain"), ("sms_otp", "certain"), ("pin", "certain"), ("card.PIN", "certain"), ("pw", "certain"),
        ("user-pw", "certain"), ("cvv", "certain"), ("cvv2", "certain"), ("card_cvc", "certain"),
        ("spin", ""), ("mapping", ""), ("shopping", ""), ("pinned", ""), ("pin_count", ""), ("bearer_count", ""),
    ],
)  # fmt: skip
def test_names_tell(name: str, kind: str) -> None:
    """A name says whether the value beside it is a secret."""
    assert kind_of_name(name) == kind


def test_a_value_beside_its_name() -> None:
    """Certain names hide every value, likely ones what looks random, and the others secrets only."""
    pairs = [
        ("password", "x7?"),
        ("password", "none"),
        ("token", "world"),
        ("token", "a1b2c3d4"),
        ("n", SECRETS[0]),
    ]
    assert [without_secret_value(name, value) for name, value in pairs] == [
        REDACTED, "none", "world", REDACTED, REDACTED,
    ]  # fmt: skip


PIECES = st.one_of(
    st.sampled_from(SECRETS),
    st.sampled_from(HEX_KEYS),
    st.sampled_from([
        "://", "//", "/", "?", "#", "@", ":", "=", "&", ";", ",", "%", "%3A", "%25", '"', "'", "\\", "\n", " ", "[",
        "]", REDACTED, "[REDACTED", "password", "token", "cookie", "bearer ", "basic ", "sk-", "eyJ", "/bot1:", "a", "0",
        "http", "-----BEGIN PRIVATE KEY-----", "-----END", "?key=", "\ud800", "\x00", "é", "İ",
    ]),
    st.text(max_size=8),
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=400, deadline=None)
@given(HOSTILE)
@example("a:b@c://d:pw/x")
def test_cleaning_never_raises_and_settles(text: str) -> None:
    """Whatever the text is, cleaning it twice is cleaning it once."""
    for clean in (without_secrets, clean_url, clean_path, clean_urls_in):
        once = clean(text)
        assert clean(once) == once, clean.__name__
    assert not looks_secret(without_secrets(text))


def cpu_seconds(clean: Callable[[str], str], text: str) -> float:
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        clean(text)
        best = min(best, time.process_time() - started)
    return max(best, 1e-4)


@pytest.mark.parametrize(
    ("clean", "fragment", "end"),
    [
        (without_secrets, "a", ""),
        (without_secrets, "0f", "g"),
        (without_secrets, "eyJa-", ""),
        (without_secrets, "sk-", ""),
        (without_secrets, "password='", ""),
        (without_secrets, 'password="\\', ""),
        (without_secrets, "token=", "://"),  # a value that is none, and holds as many
        (without_secrets, "secret: ", ""),
        (without_secrets, "123456:", ""),
        (without_secrets, "?key", ""),
        (without_secrets, "%", ""),
        (without_secrets, "-----BEGIN PRIVATE KEY-----", ""),
        (clean_url, "://a:b", ""),
        (clean_url, "a:b@", "//"),
        (clean_path, "/", ""),
        (clean_urls_in, "http://", ""),
    ],
)
def test_time_grows_with_length(clean: Callable[[str], str], fragment: str, end: str) -> None:
    """Twice the hostile text takes about twice the time, up to a megabyte."""
    for size in (64 * 1024, 512 * 1024):  # the small one first: it fails fast
        text = fragment * (size // len(fragment))
        assert cpu_seconds(clean, text + text + end) / cpu_seconds(clean, text + end) < 3, size
