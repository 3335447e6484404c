"""`LLMHttpClient`: an HTTP client for SDKs that sees to it that streams tell their usage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from otel_genapp.clients.library import AsyncLibraryClient, SyncLibraryClient, client_class, library_behind
from otel_genapp.clients.usage_request import USAGE_HOSTS, UsageAsking


class LLMHttpClient(AsyncLibraryClient):
    """An `AsyncClient` of httpx2 (or of httpx) to give to an SDK or to langchain.

    `ChatOpenAI(http_async_client=LLMHttpClient(verify=False))`. A stream of an OpenAI-compatible API
    is asked for its usage where the caller did not ask, and the caller does not notice: the request
    is a copy, the event it causes is taken out of the answer, and a server that refuses the option
    gets the request as it was. Everything else is the library's client, and is measured as one;
    without telemetry it works all the same.

    Args:
        backend: `httpx2` or `httpx`; by default the first that is installed.
        ask_for_usage: False leaves every request as it is.
        usage_hosts: the hosts that are asked, in place of `USAGE_HOSTS`, as `propagate_to` has them.
        options: what the library's client takes: `verify`, `timeout`, `proxy`, `headers`, `transport`, …

    Raises:
        ConfigError: no such backend, or `usage_hosts` has a word that is no host.
        MissingDependencyError: neither library is installed.
    """

    def __new__(cls, *_arguments: Any, backend: str | None = None, **_options: Any) -> Self:
        return object.__new__(client_class(cls, "AsyncClient", backend=backend))

    def __init__(
        self,
        *,
        backend: str | None = None,
        ask_for_usage: bool = True,
        usage_hosts: str | Iterable[str] = USAGE_HOSTS,
        **options: Any,
    ) -> None:
        library = library_behind(self, backend=backend)
        self._genapp_asking = UsageAsking(library, usage_hosts) if ask_for_usage else None
        super().__init__(**options)

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """The answer to `request`, as the library's client has it."""
        asking = self._genapp_asking
        asked = asking.ask(request) if asking is not None else None
        if asking is None or asked is None:
            return await super().send(request, stream=stream, **options)
        response = await super().send(asked.request, stream=True, **options)
        try:
            if await asked.is_refusal_async(response):
                await response.aclose()
                response = await super().send(request, stream=stream, **options)
                if response.status_code < 400:
                    asking.refused(asked)
                return response
            asked.clean(response)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response


class SyncLLMHttpClient(SyncLibraryClient):
    """`LLMHttpClient` for code that does not await: a `Client` of httpx2 (or of httpx)."""

    def __new__(cls, *_arguments: Any, backend: str | None = None, **_options: Any) -> Self:
        return object.__new__(client_class(cls, "Client", backend=backend))

    def __init__(
        self,
        *,
        backend: str | None = None,
        ask_for_usage: bool = True,
        usage_hosts: str | Iterable[str] = USAGE_HOSTS,
        **options: Any,
    ) -> None:
        library = library_behind(self, backend=backend)
        self._genapp_asking = UsageAsking(library, usage_hosts) if ask_for_usage else None
        super().__init__(**options)

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """The answer to `request`, as the library's client has it."""
        asking = self._genapp_asking
        asked = asking.ask(request) if asking is not None else None
        if asking is None or asked is None:
            return super().send(request, stream=stream, **options)
        response = super().send(asked.request, stream=True, **options)
        try:
            if asked.is_refusal(response):
                response.close()
                response = super().send(request, stream=stream, **options)
                if response.status_code < 400:
                    asking.refused(asked)
                return response
            asked.clean(response)
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response
