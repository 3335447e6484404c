"""`AuthHttpClient`: an HTTP client for internal services, which brings them their token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from otel_genapp import hub
from otel_genapp.clients.library import AsyncLibraryClient, SyncLibraryClient, client_class, library_behind
from otel_genapp.config import LOCAL_HOSTS
from otel_genapp.errors import ConfigError
from otel_genapp.network import HostRule
from otel_genapp.quiet import quiet
from otel_genapp.semconv import HEADER_AUTH

_MARK = "otel_genapp.token_put_on"
"""In the extensions of a request whose token is ours, to be taken off again."""
_guarded = quiet("capture")


class _Badge:
    """The token and who gets it. It is on a request only while that is sent, hop by hop."""

    __slots__ = ("_hosts", "_is_default", "_token")

    def __init__(self, token: str | None, hosts: str | Iterable[str] | None) -> None:
        token = None if token is None else token.strip()
        if token is not None and not (token and token.isprintable()):
            raise ConfigError("token must be text without control characters, got something else")
        self._token = token
        self._is_default = hosts is None
        hosts = LOCAL_HOSTS if hosts is None else hosts
        self._hosts = HostRule(hosts if isinstance(hosts, str) else ",".join(hosts), "hosts")

    def put_on(self, request: Any) -> None:
        """Make the request bring the token, if its host may have it; anybody else gets none."""
        allowed = False
        with _guarded:
            allowed = request.url.raw_host.decode("ascii") in self._rule()
        if not allowed:
            request.headers.pop(HEADER_AUTH, None)
            return
        with _guarded:
            token = self._current_token()
            if token is not None and HEADER_AUTH not in request.headers:
                request.extensions[_MARK] = True
                request.headers[HEADER_AUTH] = token

    def take_off(self, request: Any) -> None:
        """Leave the request as its owner made it: headers are shown in logs and tracebacks."""
        if request.extensions.pop(_MARK, None) is not None:
            request.headers.pop(HEADER_AUTH, None)

    def _rule(self) -> HostRule:
        running = hub.active
        return running.egress if self._is_default and running is not None else self._hosts

    def _current_token(self) -> str | None:
        if self._token is not None:
            return self._token
        running = hub.active
        tokens = running.settings.internal_auth if running is not None else ()
        # What is no header's value would fail the request.
        return tokens[0] if tokens and tokens[0].isprintable() else None


Hooks = dict[str, list[Callable[..., Any]]]


def _hooks_with(own: tuple[Any, Any], given: Mapping[str, Iterable[Any]] | None) -> Hooks:
    """`given` with ours where they see most and show least: last before sending, first afterwards."""
    put_on, take_off = own
    hooks: Hooks = {
        name: [hook for hook in found if hook not in own] for name, found in (given or {}).items()
    }
    hooks["request"] = [*hooks.get("request", ()), put_on]
    hooks["response"] = [take_off, *hooks.get("response", ())]
    return hooks


class AuthHttpClient(AsyncLibraryClient):
    """An `AsyncClient` of httpx2 (or of httpx) that puts the `x-internal-auth` token on its requests.

    Only allowed hosts get it, on every hop: a redirect to another host goes there without. Requests
    show it only while they are sent; a token the caller puts on by hand counts, for allowed hosts.

    Args:
        token: what to bring; by default the first `internal_auth` of the running telemetry.
        hosts: who gets it; by default `propagate_to` of the running telemetry.
        backend: `httpx2` or `httpx`; by default the first that is installed.
        options: what the library's client takes: `verify`, `timeout`, `base_url`, `headers`, …

    Raises:
        ConfigError: no such backend, no such host, or a token that is no header's value.
        MissingDependencyError: neither library is installed.
    """

    def __new__(cls, *_arguments: Any, backend: str | None = None, **_options: Any) -> Self:
        return object.__new__(client_class(cls, "AsyncClient", backend=backend))

    def __init__(
        self,
        token: str | None = None,
        *,
        hosts: str | Iterable[str] | None = None,
        backend: str | None = None,
        event_hooks: Mapping[str, Iterable[Callable[..., Any]]] | None = None,
        **options: Any,
    ) -> None:
        self._genapp_failures = library_behind(self, backend=backend).RequestError
        self._genapp_badge = badge = _Badge(token, hosts)

        async def put_on(request: Any) -> None:
            badge.put_on(request)

        async def take_off(response: Any) -> None:
            badge.take_off(response.request)

        self._genapp_hooks = (put_on, take_off)
        super().__init__(event_hooks=_hooks_with(self._genapp_hooks, event_hooks), **options)

    @property
    def event_hooks(self) -> Hooks:
        """The hooks, ours among them; they stay when others are set."""
        return super().event_hooks

    @event_hooks.setter
    def event_hooks(self, hooks: Mapping[str, Iterable[Callable[..., Any]]]) -> None:
        inherited: Any = super(AuthHttpClient, type(self)).event_hooks
        inherited.fset(self, _hooks_with(self._genapp_hooks, hooks))

    async def send(self, request: Any, **options: Any) -> Any:
        """The answer to `request`, as the library's client has it."""
        try:
            return await super().send(request, **options)
        except self._genapp_failures as error:
            self._genapp_badge.take_off(error.request)
            raise
        finally:
            self._genapp_badge.take_off(request)


class SyncAuthHttpClient(SyncLibraryClient):
    """`AuthHttpClient` for code that does not await: a `Client` of httpx2 (or of httpx)."""

    def __new__(cls, *_arguments: Any, backend: str | None = None, **_options: Any) -> Self:
        return object.__new__(client_class(cls, "Client", backend=backend))

    def __init__(
        self,
        token: str | None = None,
        *,
        hosts: str | Iterable[str] | None = None,
        backend: str | None = None,
        event_hooks: Mapping[str, Iterable[Callable[..., Any]]] | None = None,
        **options: Any,
    ) -> None:
        self._genapp_failures = library_behind(self, backend=backend).RequestError
        self._genapp_badge = badge = _Badge(token, hosts)

        def take_off(response: Any) -> None:
            badge.take_off(response.request)

        self._genapp_hooks = (badge.put_on, take_off)
        super().__init__(event_hooks=_hooks_with(self._genapp_hooks, event_hooks), **options)

    @property
    def event_hooks(self) -> Hooks:
        """The hooks, ours among them; they stay when others are set."""
        return super().event_hooks

    @event_hooks.setter
    def event_hooks(self, hooks: Mapping[str, Iterable[Callable[..., Any]]]) -> None:
        inherited: Any = super(SyncAuthHttpClient, type(self)).event_hooks
        inherited.fset(self, _hooks_with(self._genapp_hooks, hooks))

    def send(self, request: Any, **options: Any) -> Any:
        """The answer to `request`, as the library's client has it."""
        try:
            return super().send(request, **options)
        except self._genapp_failures as error:
            self._genapp_badge.take_off(error.request)
            raise
        finally:
            self._genapp_badge.take_off(request)
