from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx
import httpx2
import pytest

from otel_genapp import clients
from otel_genapp.clients import AuthHttpClient, LLMHttpClient, SyncAuthHttpClient, SyncLLMHttpClient
from otel_genapp.errors import ConfigError, MissingDependencyError

OURS: list[Any] = [LLMHttpClient, SyncLLMHttpClient, AuthHttpClient, SyncAuthHttpClient]


def parent(cls: Any, module: Any) -> Any:
    return module.Client if cls.__name__.startswith("Sync") else module.AsyncClient


@pytest.mark.parametrize("cls", OURS)
@pytest.mark.parametrize(("backend", "module"), [(None, httpx2), ("httpx2", httpx2), ("httpx", httpx)])
def test_a_client_is_the_librarys_and_ours(cls: Any, backend: str | None, module: Any) -> None:
    """SDKs check for their library's class, and find it; the name and the class are ours."""
    client = cls(backend=backend, verify=False, timeout=3.0, base_url="http://shop/v1", headers={"x-a": "1"})
    assert isinstance(client, cls)
    assert isinstance(client, parent(cls, module))
    assert (type(client).__name__, type(client).__module__) == (cls.__name__, cls.__module__)
    assert (client.timeout.read, str(client.base_url), client.headers["x-a"]) == (3.0, "http://shop/v1/", "1")
    assert type(client) is type(cls(backend=backend))


def test_subclasses_behave() -> None:
    """A subclass has its own methods and constructor, its library's client, and ours between them."""

    class Mine(LLMHttpClient):
        """Its own."""

        def __init__(self, shop: str, **options: Any) -> None:
            super().__init__(base_url=f"http://{shop}", **options)

        def greeting(self) -> str:
            return f"hello {self.base_url.host}"

    client = Mine("shop")
    assert (client.greeting(), type(client).__doc__) == ("hello shop", "Its own.")
    assert isinstance(client, Mine)
    assert isinstance(client, httpx2.AsyncClient)
    assert isinstance(Mine("shop", backend="httpx"), httpx.AsyncClient)


def test_a_subclass_may_name_its_library() -> None:
    """Deriving from a library's client as well settles which it is."""

    class Mine(SyncLLMHttpClient, httpx.Client):  # type: ignore[misc]  # to a type checker it is httpx2's
        pass

    assert type(Mine()) is Mine
    with pytest.raises(ConfigError, match="Mine is made of httpx"):
        Mine(backend="httpx2")


def test_a_backend_given_too_late_is_refused() -> None:
    """A constructor that names another library than the class was made of is told so."""

    class Mine(LLMHttpClient):
        def __init__(self) -> None:
            super().__init__(backend="httpx")

    with pytest.raises(ConfigError, match="backend='httpx' comes too late"):
        Mine()


def test_both_in_one() -> None:
    """The two kinds combine: one client asks for usage and brings the token."""

    class Both(LLMHttpClient, AuthHttpClient):
        pass

    client = Both(token="secret", usage_hosts="shop", hosts="shop")
    assert len(client.event_hooks["request"]) == 1


@pytest.mark.parametrize("cls", OURS)
def test_an_unknown_backend_is_refused(cls: Any) -> None:
    """The message names the two there are."""
    with pytest.raises(ConfigError, match="backend must be one of httpx2, httpx, got 'requests'"):
        cls(backend="requests")


@pytest.mark.parametrize(
    ("absent", "backend", "command"),
    [
        (("httpx2", "httpx"), None, r"pip install 'otel-genapp\[httpx2\]'"),
        (("httpx",), "httpx", r"pip install 'otel-genapp\[httpx\]'"),
    ],
)
def test_without_a_library_the_error_is_the_command(
    monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], backend: str | None, command: str
) -> None:
    """What is missing is said with what installs it."""
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=command):
        LLMHttpClient(backend=backend)


def test_without_httpx2_it_is_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is what is there."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert isinstance(LLMHttpClient(), httpx.AsyncClient)


@pytest.mark.parametrize("hosts", ["http://x", ["a b"]])
def test_a_word_that_is_no_host_is_refused(hosts: Any) -> None:
    """A list of hosts is checked when the client is made."""
    with pytest.raises(ConfigError, match="usage_hosts has"):
        LLMHttpClient(usage_hosts=hosts)
    with pytest.raises(ConfigError, match="hosts has"):
        AuthHttpClient("secret", hosts=hosts)


def test_importing_it_imports_no_library() -> None:
    """The libraries are loaded with the first client, not with the module."""
    program = """
import json, sys
from otel_genapp import clients
before = [name for name in ("httpx", "httpx2") if name in sys.modules]
clients.LLMHttpClient()
print(json.dumps([before, [name for name in ("httpx", "httpx2") if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], ["httpx2"]]


def test_the_public_names() -> None:
    """`__all__` is what the module offers, sorted as the linter has it."""
    assert set(clients.__all__) == {cls.__name__ for cls in OURS} | {"USAGE_HOSTS"}
