"""Which HTTP library a ready-made client is made of, found when the first one is made.

httpx2 and httpx have the same classes under another name, and SDKs differ in which they take: so a
client class of ours has no library in it. Calling it makes an instance of a class that derives from
it and from the library's client.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from otel_genapp.errors import ConfigError, MissingDependencyError

BACKENDS = ("httpx2", "httpx")

if TYPE_CHECKING:
    import httpx2

    AsyncLibraryClient = httpx2.AsyncClient
    SyncLibraryClient = httpx2.Client
else:
    AsyncLibraryClient = SyncLibraryClient = object


def client_class(cls: type, kind: str, *, backend: str | None) -> type:
    """`cls` with the library's client of that kind (`AsyncClient`, `Client`) behind it.

    It is `cls` itself where that derives from a library's client already.

    Raises:
        ConfigError: `backend` is no library, or not the one `cls` derives from.
        MissingDependencyError: the library is not installed.
    """
    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    own = library_of(cls)
    if own is None:
        return _derived(cls, getattr(load_library(backend), kind))
    if backend not in {None, own.__name__}:
        raise ConfigError(f"{cls.__name__} is made of {own.__name__}, so backend cannot be {backend!r}")
    return cls


def library_of(cls: type) -> ModuleType | None:
    """The library whose client `cls` derives from."""
    for name in BACKENDS:
        module: Any = sys.modules.get(name)
        if module is not None and issubclass(cls, module.AsyncClient | module.Client):
            found: ModuleType = module
            return found
    return None


def library_behind(client: object, *, backend: str | None) -> ModuleType:
    """The library a client is made of.

    Raises:
        ConfigError: a subclass asks for another one in its constructor, which is too late.
    """
    found = library_of(type(client))
    if found is None or backend not in {None, found.__name__}:
        raise ConfigError(
            f"backend={backend!r} comes too late in the constructor of {type(client).__name__}; "
            f"give it to the class, or derive from the library's client as well"
        )
    return found


def load_library(backend: str | None) -> ModuleType:
    """The library asked for, or the first there is.

    Raises:
        MissingDependencyError: it is not installed.
    """
    for name in (backend,) if backend is not None else BACKENDS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    missing = backend or BACKENDS[0]
    raise MissingDependencyError(missing, missing)


@lru_cache(maxsize=256)
def _derived(cls: type, parent: type) -> type:
    said = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, parent), said)
