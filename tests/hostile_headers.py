"""Values of an auth header that must not let anybody in, drawn with a seed."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
CYRILLIC = str.maketrans("aceopx", "\u0430\u0441\u0435\u043e\u0440\u0445")
WORDS = (b"None", b"null", b"true", b"*", b"%", b"''", b'"', b"[]", b"{}", b"0", b"-", b"undefined", b"..")


@dataclass(frozen=True)
class Hostile:
    """One request's auth headers; `kind` says what was tried."""

    kind: str
    values: tuple[bytes, ...]

    @property
    def survives_a_server(self) -> bool:
        """Whether a server hands the values over as they are, instead of refusing or trimming them."""
        return all(
            len(value) < 8000 and value == value.decode("latin-1").strip().encode("latin-1")
            and not any(byte < 0x20 or byte == 0x7F for byte in value)
            for value in self.values
        )  # fmt: skip


def _cut(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    place = draw.randrange(1, len(token))
    return (draw.choice((token[:place], token[place:])),)


def _longer(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    more = draw.randbytes(draw.randrange(1, 9)).hex().encode()
    return (draw.choice((token + more, more + token, token + token, token + b"=", token + b";")),)


def _other_case(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    place = draw.choice([place for place, byte in enumerate(token) if chr(byte).isalpha()])
    return (draw.choice((token.swapcase(), token[:place] + token[place:].swapcase())),)


def _one_byte_off(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    place = draw.randrange(len(token))
    return (token[:place] + bytes([token[place] ^ draw.choice((1, 2, 4))]) + token[place + 1 :],)


def _junk(_token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return (bytes(draw.randrange(1, 256) for _ in range(draw.randrange(1, 80))),)


def _printable_junk(_token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return (bytes(draw.randrange(0x21, 0x7F) for _ in range(draw.randrange(1, 80))),)


def _not_ascii(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    text = "".join(chr(draw.choice((0xE9, 0x416, 0x4E2D, 0x1F600, 0x661, 0x200B))) for _ in range(9))
    return (
        draw.choice((text.encode(), text.encode("utf-16-le").replace(b"\0", b"\1"), token + text.encode())),
    )


def _homoglyphs(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    text, place = token.decode(), draw.randrange(len(token))
    return ((text[:place].translate(CYRILLIC) + text[place:].translate(FULL_WIDTH)).encode(),)


def _repeated(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return draw.choice(((token, token), (b"x", token), (token, b"x"), (b"", token), (token,) * 5))


def _joined(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return (draw.choice((b",", b", ", b";", b" ")).join((token, draw.choice((token, b"x")))),)


def _huge(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return (draw.choice((b"x" * 65536, (token * 2000)[:65536], token + b" " * 65536)),)


def _wrapped(token: bytes, draw: random.Random) -> tuple[bytes, ...]:
    return (
        draw.choice(
            (
                b"Bearer " + token, b"Basic " + base64.b64encode(token), base64.b64encode(token), token.hex().encode(),
                b'"' + token + b'"', b"'" + token + b"'", b"<" + token + b">", token[::-1],
                b"%" + quote_from_bytes(token, safe="").encode(), b"\x0b" + token, token + b"\x0c",
                b"x-internal-auth: " + token,
            )
        ),
    )  # fmt: skip


KINDS: dict[str, Callable[[bytes, random.Random], tuple[bytes, ...]]] = {
    "missing": lambda _token, _draw: (),
    "empty": lambda _token, _draw: (b"",),
    "word": lambda _token, draw: (draw.choice(WORDS),),
    "cut": _cut,
    "longer": _longer,
    "other case": _other_case,
    "one byte off": _one_byte_off,
    "junk": _junk,
    "printable junk": _printable_junk,
    "not ascii": _not_ascii,
    "homoglyphs": _homoglyphs,
    "repeated": _repeated,
    "joined": _joined,
    "huge": _huge,
    "wrapped": _wrapped,
}


def hostile_headers(token: bytes, count: int, *, seed: int = 20261121) -> list[Hostile]:
    """`count` hostile header sets for `token`, of every kind in turn; the same ones for a seed."""
    draw = random.Random(seed)  # noqa: S311 - reproducible on purpose
    kinds = list(KINDS.items())
    return [
        Hostile(kind, make(token, draw))
        for number in range(count)
        for kind, make in [kinds[number % len(kinds)]]
    ]
