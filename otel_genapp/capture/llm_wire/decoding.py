"""Undoing a content encoding on our copy of an answer, piece by piece and within bounds.

A bomb stays small here: each call hands out at most `PIECE_BYTES` at a time, and past
`TOTAL_BYTES` the decoder gives up. What cannot be decoded leaves the answer unread; the
application's own bytes are never touched.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

PIECE_BYTES = 64 * 1024
TOTAL_BYTES = 64 * 1024 * 1024

Decode = Callable[[bytes], Iterator[bytes]]


class UndecodableError(ValueError):
    """The body is not in the encoding it says, or grows without end."""


def decoder(encoding: str) -> Decode | None:
    """How to decode a body with this `content-encoding`, or None where it is plain already.

    Raises:
        UndecodableError: the encoding is unknown, or its library is not installed.
    """
    names = [name for name in encoding.replace(" ", "").lower().split(",") if name not in {"", "identity"}]
    if not names:
        return None
    if len(names) > 1:
        raise UndecodableError(f"several encodings: {encoding}")
    try:
        start = _START[names[0]]
    except KeyError:
        raise UndecodableError(f"unknown encoding: {encoding}") from None
    return _bounded(start())


def _bounded(decode: Decode) -> Decode:
    total = 0

    def pieces(data: bytes) -> Iterator[bytes]:
        nonlocal total
        for piece in decode(data):
            total += len(piece)
            if total > TOTAL_BYTES:
                raise UndecodableError("the body grows past its bound")
            yield piece

    return pieces


def _zlib(wbits: int) -> Decode:
    inflate = zlib.decompressobj(wbits)

    def pieces(data: bytes) -> Iterator[bytes]:
        while data and not inflate.eof:
            try:
                piece = inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise UndecodableError(str(error)) from None
            data = inflate.unconsumed_tail
            if piece:
                yield piece

    return pieces


def _gzip() -> Decode:
    return _zlib(zlib.MAX_WBITS | 16)


def _deflate() -> Decode:
    """With zlib's header, as the standard says, or without, as some servers do."""
    chosen: Decode | None = None

    def pieces(data: bytes) -> Iterator[bytes]:
        nonlocal chosen
        if chosen is None and data:
            wrapped = data[0] & 0x0F == 8 and (len(data) < 2 or int.from_bytes(data[:2], "big") % 31 == 0)
            chosen = _zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        if chosen is not None:
            yield from chosen(data)

    return pieces


def _brotli() -> Decode:
    brotli: Any = _library("brotli", "brotlicffi")
    decompressor = brotli.Decompressor()
    limit = {"output_buffer_limit": PIECE_BYTES} if hasattr(decompressor, "can_accept_more_data") else {}

    def pieces(data: bytes) -> Iterator[bytes]:
        try:
            yield (
                decompressor.process(data, **limit)
                if hasattr(decompressor, "process")
                else (decompressor.decompress(data, **limit))
            )
            while limit and not decompressor.can_accept_more_data():
                yield decompressor.process(b"", **limit)
        except brotli.error as error:
            raise UndecodableError(str(error)) from None

    return pieces


def _zstd() -> Decode:
    zstd: Any = _library("compression.zstd", "backports.zstd")
    decompressor = zstd.ZstdDecompressor()

    def pieces(data: bytes) -> Iterator[bytes]:
        nonlocal decompressor
        try:
            while data or not decompressor.needs_input:
                if decompressor.eof:  # one frame after the other
                    data = decompressor.unused_data + data
                    decompressor = zstd.ZstdDecompressor()
                    if not data:
                        return
                piece = decompressor.decompress(data, PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if decompressor.eof and not decompressor.unused_data:
                    return
        except zstd.ZstdError as error:
            raise UndecodableError(str(error)) from None

    return pieces


def _library(*names: str) -> Any:
    import importlib

    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UndecodableError(f"{names[0]} is not installed")


_START: dict[str, Callable[[], Decode]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
