"""Which hosts a rule names: the rule behind `trust_incoming` and `propagate_to`.

A rule is a comma-separated list of `loopback`, `private`, `*` (everyone), CIDR blocks, host names
and `*.suffix` patterns; `none` names nobody.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from otel_genapp.errors import ConfigError

_LOCAL_NAME = re.compile(r"[a-z][a-z0-9_-]*")
"""Not a number in any base: those are addresses to resolvers."""
_CACHE_LIMIT = 4096
_NO_NAME = frozenset("/*: ")
_LOOPBACK_NAMES = frozenset({"localhost", "testclient", "testserver", ""})

_PRIVATE = tuple(
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
"""RFC 1918, RFC 4193 and link-local; Python's `is_private` adds documentation and test networks."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Rule:
    everyone: bool
    loopback: bool
    private: bool
    networks: tuple[_Network, ...]
    names: frozenset[str]
    suffixes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, setting: str) -> _Rule:
        words = [word.strip().lower() for word in text.split(",") if word.strip()]
        networks: list[_Network] = []
        names: set[str] = set()
        suffixes: list[str] = []
        for word in words:
            if word in {"*", "loopback", "none", "private"}:
                continue
            try:
                networks.append(ipaddress.ip_network(word, strict=False))
            except ValueError:
                name = word.removeprefix("*.")
                if not name.isascii() or not name or not _NO_NAME.isdisjoint(name):
                    message = (
                        f"{setting} has {word!r}; write loopback, private, none, *, a CIDR block, "
                        "a host name or *.suffix, separated by commas"
                    )
                    raise ConfigError(message) from None
                if name == word:
                    names.add(name)
                else:
                    suffixes.append(f".{name}")
        return cls(
            everyone="*" in words,
            loopback="loopback" in words,
            private="private" in words,
            networks=tuple(networks),
            names=frozenset(names),
            suffixes=tuple(suffixes),
        )

    def names_host(self, host: str) -> bool:
        if self.everyone:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return (
                host in self.names
                or host.endswith(self.suffixes)
                or (self.loopback and host in _LOOPBACK_NAMES)
                # A name without a dot resolves inside the network it is used in.
                or (self.private and _LOCAL_NAME.fullmatch(host) is not None and host not in _LOOPBACK_NAMES)
            )
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if self.loopback if address.is_loopback else self.private and _is_private(address):
            return True
        return any(address in network for network in self.networks if network.version == address.version)


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _PRIVATE if network.version == address.version)


class HostRule:
    """A parsed rule that answers `host in rule`, remembering what it was asked.

    Raises:
        ConfigError: a word of the rule is not one it knows; the message names `setting`.
    """

    __slots__ = ("_known", "_rule", "text")

    def __init__(self, text: str, setting: str) -> None:
        self.text = text
        self._rule = _Rule.parse(text, setting)
        self._known: dict[str, bool] = {}

    def __contains__(self, host: str) -> bool:
        verdict = self._known.get(host)
        if verdict is None:
            verdict = self._rule.names_host(host.strip("[]").lower())
            if len(self._known) >= _CACHE_LIMIT:
                self._known = {}
            self._known[host] = verdict
        return verdict

    def __repr__(self) -> str:
        return f"HostRule({self.text!r})"
