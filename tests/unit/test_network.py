"""Which hosts a rule names."""

from __future__ import annotations

import pytest

from otel_genapp import network
from otel_genapp.errors import ConfigError
from otel_genapp.network import HostRule

LOCAL = (
    "127.0.0.1",
    "127.8.9.1",
    "::1",
    "[::1]",
    "::ffff:127.0.0.1",
    "localhost",
    "LOCALHOST",
    "testclient",
    "",
)
PRIVATE = (
    "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1", "fd00::1", "fe80::1%eth0",
    "::ffff:10.0.0.1", "collector", "redis",
)  # fmt: skip
PUBLIC = (
    "8.8.8.8", "172.32.0.1", "11.0.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "api.openai.com",
    "localhost.evil.com", "127.0.0.1.evil.com", "10.evil.com", "0x7f000001.evil.com",
    "2130706433", "0x7f000001", "127.1",
)  # fmt: skip

RULES = [
    ("", (), (*LOCAL, *PRIVATE, *PUBLIC)),
    ("none", (), (*LOCAL, *PRIVATE, *PUBLIC, "none")),
    ("loopback", LOCAL, (*PRIVATE, *PUBLIC)),
    ("private", PRIVATE, (*LOCAL, *PUBLIC)),
    ("loopback,private", (*LOCAL, *PRIVATE), PUBLIC),
    ("*", (*LOCAL, *PRIVATE, *PUBLIC), ()),
    (
        " LoopBack , ,10.0.0.0/8",
        (*LOCAL, "10.255.0.1", "::ffff:10.0.0.1"),
        ("192.168.1.1", "8.8.8.8", "redis"),
    ),
    ("8.8.8.8", ("8.8.8.8", "::ffff:8.8.8.8"), ("8.8.8.9", "10.0.0.1")),
    ("10.1.2.3/8", ("10.200.0.1",), ("11.0.0.1",)),
    ("2606:4700::/32", ("2606:4700::1", "[2606:4700::1]"), ("2607::1", "8.8.8.8")),
    (
        "API.Shop.com",
        ("api.shop.com", "Api.Shop.Com"),
        ("shop.com", "x.api.shop.com", "api.shop.com.evil.com"),
    ),
    ("*.shop.com", ("a.shop.com", "a.b.shop.com"), ("shop.com", "evilshop.com", "a.shop.com.evil.com")),
]


@pytest.mark.parametrize(("text", "inside", "outside"), RULES)
def test_rules(text: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    """A rule names exactly the hosts it says, however an address is spelt."""
    rule = HostRule(text, "propagate_to")
    for _ in range(2):  # the second answer is a remembered one
        assert [host for host in inside if host not in rule] == []
        assert [host for host in outside if host in rule] == []


@pytest.mark.parametrize(
    "word",
    [
        "10.0.0.0/99", "::/129", "a*.com", "*.*", "*.", "*x", "two words", "http://x", "shop.com/path",
        "redis:6379", "*.shop.com:443", "магазин.рф", "*.рф",
    ],
)  # fmt: skip
def test_senseless_words_are_refused(word: str) -> None:
    """A word that is no rule is refused, naming the setting, the word and the forms there are."""
    message = (
        f"trust_incoming has {word!r}; write loopback, private, none, *, a CIDR block, a host name or *.suffix, "
        "separated by commas"
    )
    with pytest.raises(ConfigError) as caught:
        HostRule(f"loopback,{word}", "trust_incoming")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "host", ["\ud800", "a" * 100_000, "[", "]", "%", "::1%", "1.2.3", "999.1.1.1", "\0", "*"]
)
def test_hostile_hosts_do_not_raise(host: str) -> None:
    """Any text can be asked about; only a rule for everyone names what is no host outside."""
    assert host in HostRule("*", "propagate_to")
    assert host not in HostRule("shop.com,8.8.8.0/24", "propagate_to")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are remembered up to a limit, and stay right past it."""
    monkeypatch.setattr(network, "_CACHE_LIMIT", 100)
    rule = HostRule("*.shop.com", "propagate_to")
    asked = [f"h{number}.{('shop', 'evil')[number % 2]}.com" for number in range(1000)]
    assert [host in rule for host in asked] == [number % 2 == 0 for number in range(1000)]
    assert len(rule._known) <= 100


def test_repr() -> None:
    """A rule shows what it was written as."""
    assert repr(HostRule("loopback, *.shop.com", "x")) == "HostRule('loopback, *.shop.com')"
