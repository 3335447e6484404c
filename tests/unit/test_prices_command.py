"""`otel-genapp prices check`: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import genai_prices
import pytest

from otel_genapp.cli import main
from otel_genapp.pipeline.pricing import Prices

LIBRARY = f"genai-prices {genai_prices.__version__}"
FILE = """
currency = "RUB"
usd_per_unit = 0.0125

[[price]]
provider = "gigachat"
model = "GigaChat-2*"
input_per_million = 64
output_per_million = 128
cache_read_per_million = 8
from = 2026-01-01

[[price]]
provider = "ollama"
model = "*"
input_per_million = 0
output_per_million = 0
service_tier = "flex"
"""


@pytest.fixture(autouse=True)
def no_price_file_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENAPP_PRICES", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "prices.toml"
    file.write_text(FILE)
    return str(file)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main(("prices", "check", *arguments))
    out, error = capsys.readouterr()
    return code, out, error


def row(**said: Any) -> dict[str, Any]:
    plain = {"service_tier": "standard", "from": None, "over_input_tokens": 0, "usd_per_request": 0.0}
    return {**plain, "table": LIBRARY, **said}


def test_every_entry_of_the_file(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model the whole file is shown, in dollars, with the tables in use."""
    version = Prices(path).tables()[0]
    code, out, error = asked(capsys, "--file", path)
    assert (code, error) == (0, "")
    assert out.splitlines() == [
        f"tables: {version}, {LIBRARY}",
        (
            "gigachat GigaChat-2* standard from 2026-01-01: input 0.8, output 1.6, cache_read 0.1, "
            f"cache_write 0.8, cache_write_1h 0.8, audio_input 0.8 ({version})"
        ),
        (
            "ollama * flex: input 0, output 0, cache_read 0, cache_write 0, cache_write_1h 0, "
            f"audio_input 0 ({version})"
        ),
    ]


def test_json_of_one_provider(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON the same is one object, and the provider's usual names are understood."""
    code, out, error = asked(capsys, "claude-sonnet-4-5", "--provider", "anthropic", "--json", "--file", path)
    assert (code, error) == (0, "")
    found = json.loads(out)
    assert found["tables"] == Prices(path).tables()
    assert found["unpriced"] == []
    named = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    below = {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75, "cache_write_1h": 6.0}
    over = {"input": 6.0, "output": 22.5, "cache_read": 0.6, "cache_write": 7.5, "cache_write_1h": 12.0}
    assert [shown for shown in found["prices"] if shown["service_tier"] == "standard"] == [
        row(**named, usd_per_million=below),
        row(**named, usd_per_million=over, over_input_tokens=200_000),
    ]
    code, out, _ = asked(capsys, "sonar", "--provider", "perplexity", "--json")
    assert [shown["usd_per_request"] for shown in json.loads(out)["prices"]] == [0.012]
    assert asked(capsys, "mistral-large-latest", "--provider", "mistral")[1].count("mistral_ai ") >= 1


def test_models_without_a_price(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A model named that nobody prices is told on standard error and makes the exit code 1."""
    code, out, error = asked(capsys, "gigachat-2-max", "nameless", "--provider", "gigachat", "--file", path)
    assert (code, error) == (1, "otel-genapp: nameless has no price\n")
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "tables",
        "gigachat gigachat-2-max standard",
    ]
    code, out, error = asked(capsys, "llama", "--file", path)
    assert (code, [line.partition(":")[0] for line in out.splitlines()[1:]]) == (0, ["ollama llama flex"])


def test_a_model_at_the_wrong_provider(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for one provider, another's price does not count."""
    code, out, error = asked(capsys, "gpt-4o", "--provider", "ollama", "--json")
    assert (code, json.loads(out)) == (1, {"tables": [LIBRARY], "prices": [], "unpriced": ["gpt-4o"]})
    assert error == (
        "otel-genapp: no price file: give --file or set GENAPP_PRICES\notel-genapp: gpt-4o has no price\n"
    )


def test_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is taken from the environment; a wrong one is exit code 2 and a message, no data."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[[price]]\nprovider = 'p'\nmodel = 'm'\n")
    monkeypatch.setenv("GENAPP_PRICES", str(bad))
    code, out, error = asked(capsys)
    assert (code, out) == (2, "")
    assert error == (
        f"otel-genapp: prices: {str(bad)!r}, [[price]] 1 (p / m): "
        "has no input_per_million; write 0 for a model that costs nothing\n"
    )


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where genai-prices is missing the command that installs it is told."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    code, out, error = asked(capsys, "gpt-4o")
    assert (code, out) == (1, "tables: none\n")
    assert "pip install 'otel-genapp[cost]'" in error


def test_the_real_command(path: str) -> None:
    """As a program of its own it behaves the same."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_genapp", "prices", "check", "--json"],
        env={**os.environ, "GENAPP_PRICES": path, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [shown["provider"] for shown in json.loads(done.stdout)["prices"]] == ["gigachat", "ollama"]
