"""Who may send to the collector."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.collector.tracing import until
from tests.otelcol import TOKEN, Otelcol, running


def status(collector: Otelcol, authorization: str | None) -> int:
    """How an empty request with this header is answered."""
    headers = {"content-type": "application/json"}
    if authorization is not None:
        headers["authorization"] = authorization
    request = urllib.request.Request(f"{collector.endpoint}/v1/traces", data=b"{}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_one_token(tmp_path: Path) -> None:
    """Only the whole token, as a bearer, is taken."""
    with running("base", "file", folder=tmp_path) as collector:
        assert status(collector, f"Bearer {TOKEN}") == 200
        others = (None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}")
        assert [status(collector, other) for other in others] == [401] * len(others)


def test_tokens_of_a_file(tmp_path: Path) -> None:
    """Each line is taken; when the file changes, the old ones no longer are."""
    file = tmp_path / "tokens"
    file.write_text("first\nsecond\n")
    settings = {"GENAPP_COLLECTOR_TOKEN": "", "GENAPP_COLLECTOR_TOKEN_FILE": str(file)}
    with running("base", "token_file", "file", folder=tmp_path, settings=settings) as collector:

        def taken() -> list[str]:
            tokens = ("first", "second", "third", "")
            return [token for token in tokens if status(collector, f"Bearer {token}") == 200]

        assert taken() == ["first", "second"]
        file.write_text("second\nthird\n")
        until(lambda: taken() == ["second", "third"])


def test_an_empty_line_is_no_token(tmp_path: Path) -> None:
    """It lets nobody in who has no token."""
    file = tmp_path / "tokens"
    file.write_text("first\n\n")
    settings = {"GENAPP_COLLECTOR_TOKEN": "", "GENAPP_COLLECTOR_TOKEN_FILE": str(file)}
    with running("base", "token_file", "file", folder=tmp_path, settings=settings) as collector:
        assert [status(collector, header) for header in (None, "", "Bearer", "Bearer ")] == [401] * 4


@pytest.mark.parametrize("content", ["", "\n"], ids=["nothing", "an empty line"])
def test_a_file_without_tokens(content: str, tmp_path: Path) -> None:
    """With it the collector does not start."""
    file = tmp_path / "tokens"
    file.write_text(content)
    settings = {"GENAPP_COLLECTOR_TOKEN": "", "GENAPP_COLLECTOR_TOKEN_FILE": str(file)}
    with (
        pytest.raises(AssertionError, match="is empty"),
        running("base", "token_file", "file", folder=tmp_path, settings=settings),
    ):
        pass
