from __future__ import annotations

import pytest

from otel_genapp.capture.client_resource import ClientResources, client_resources

TEMPLATES = (
    "/v1/models/{model}:generate",
    "/users/{id}",
    "/users/me",
    "/users/{id}/orders/{order}",
    "/files/über uns",
)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/users/17", "/users/{id}"),
        ("/users/17?full=1", "/users/{id}"),
        ("/users/a%2Fb", "/users/{id}"),
        ("/users/me", "/users/me"),
        ("/users/17/orders/x-9", "/users/{id}/orders/{order}"),
        ("/v1/models/gpt-5:generate", "/v1/models/{model}:generate"),
        ("/files/%C3%BCber%20uns", "/files/über uns"),
        ("/users/", ""),
        ("/users/17/", ""),
        ("/users/17/orders", ""),
        ("/x/users/17", ""),
        ("/usersX17", ""),
        ("", ""),
    ],
)
def test_a_path_is_named_after_the_template_it_fits(path: str, template: str) -> None:
    """A path fits a template as a whole, one segment for each placeholder, the query aside."""
    resources = ClientResources(TEMPLATES)
    assert resources.name("https", "api.example.com", port=None, path=path) == f"api.example.com{template}"


def test_a_literal_template_wins_whatever_the_order() -> None:
    """Without placeholders beats with; among those with, the first listed wins."""
    resources = ClientResources(("/{any}", "/{other}", "/health"))
    assert [resources.name("http", "h", port=None, path=path) for path in ("/health", "/x")] == [
        "h/health",
        "h/{any}",
    ]


@pytest.mark.parametrize(
    ("scheme", "host", "port", "name"),
    [
        ("http", "API.Example.COM", 80, "api.example.com"),
        ("https", "api.example.com", 443, "api.example.com"),
        ("https", "api.example.com", 80, "api.example.com:80"),
        ("http", "api.example.com", 443, "api.example.com:443"),
        ("ws", "h", 80, "h"),
        ("wss", "h", 443, "h"),
        ("http+unix", "h", 80, "h:80"),
        ("http", "h", None, "h"),
        ("http", "::1", 8000, "[::1]:8000"),
        ("http", "[::1]", None, "[::1]"),
    ],
)
def test_the_host_is_named_with_its_unusual_port_only(
    scheme: str, host: str, port: int | None, name: str
) -> None:
    """Hosts are lower case, and the scheme's own port is left out."""
    assert ClientResources().name(scheme, host, port=port) == name


def test_without_templates_no_path_is_wanted() -> None:
    """The caller may save itself the path when no template could fit."""
    assert [ClientResources(templates).wants_path for templates in ((), ("/a",), ("/{b}",))] == [
        False,
        True,
        True,
    ]


def test_what_is_remembered_stays_bounded() -> None:
    """A million paths leave no more than a bounded number behind, and long ones none."""
    resources = ClientResources(("/users/{id}",))
    names = {resources.name("http", "h", port=None, path=f"/users/{number}") for number in range(5000)}
    kept = len(resources._known)
    long_path = resources.name("http", "h", port=None, path="/users/" + "x" * 10_000)
    assert (names, long_path, kept <= 1024, len(resources._known) - kept) == (
        {"h/users/{id}"},
        "h/users/{id}",
        True,
        0,
    )


def test_equal_templates_share_one_naming() -> None:
    """Looking the naming up again for every request costs no rebuilding."""
    assert client_resources(("/a",)) is client_resources(("/a",))
