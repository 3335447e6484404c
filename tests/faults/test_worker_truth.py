"""Workers that are killed all the time: sessions, totals, scrape and store say what the clients know."""

from __future__ import annotations

import pytest

from otel_genapp.testing import Answer, FakeLLMServer
from tests.faults.worker_fleet import Clients, Fleet, Scraper, gunicorn_fleet, killing

IN, OUT = 12, 5
STATUS = {"plain": "success", "stream": "success", "fail": "fail", "cancel": "cancelled"}


def all_sessions(fleet: Fleet) -> list[str]:
    """Every session id that any worker lists."""
    found: list[str] = []
    target = "/events/metrics/sessions?limit=1000"
    while True:
        page = fleet.json(target)
        found += page["sessions"]
        if page["next"] is None:
            assert page["count"] == len(found)
            return found
        target = f"/events/metrics/sessions?limit=1000&cursor={page['next']}"


def check(total: int, *, kill_every_s: float) -> None:
    with (
        FakeLLMServer(lambda _request: Answer("A long one.", input_tokens=IN, output_tokens=OUT)) as model,
        gunicorn_fleet(
            "tests.programs.shop_with_model",
            MODEL_URL=f"{model.base_url}/chat/completions",
            OTEL_TRACES_SAMPLER="always_off",
        ) as fleet,
    ):
        clients, scraper = Clients(fleet, total), Scraper(fleet)
        with scraper.watching(), killing(fleet, every_s=kill_every_s) as killed:
            clients.run()
        scrape = fleet.scrape()
        totals = fleet.json("/events/metrics")
        sessions = all_sessions(fleet)
        seen = {session: fleet.json(f"/events/metrics/session/{session}") for session in sessions[::10]}

    # Lost, phantom, duplicated.
    assert clients.answered <= set(sessions)
    assert set(sessions) <= set(clients.issued)
    assert totals["total_requests"] == len(sessions) == len(set(sessions))
    assert {summary["total_requests"] for summary in seen.values()} == {1}
    for session, summary in seen.items():
        if session in clients.answered:
            expected = STATUS[clients.issued[session]]
            assert (summary["successful_requests"], summary["cancelled_requests"]) == (
                int(expected == "success"), int(expected == "cancelled"),
            )  # fmt: skip

    # Prometheus says what the ledger says.
    by_name: dict[str, float] = {}
    for (name, labels), value in scrape.items():
        kind = dict(labels).get("type", "")
        by_name[f"{name} {kind}".strip()] = by_name.get(f"{name} {kind}".strip(), 0) + value
    assert by_name["genapp_llm_requests_total"] == totals["total_requests"]
    assert by_name["genapp_llm_request_duration_sec_count"] == totals["total_requests"]
    assert by_name["genapp_llm_tokens_total input"] == (
        totals["total_prompt_tokens"] + totals["failed_prompt_tokens"]
    )
    assert by_name["genapp_llm_tokens_total output"] == (
        totals["total_completion_tokens"] + totals["failed_completion_tokens"]
    )
    assert scraper.backward == []
    assert scraper.scrapes > 20
    assert len(killed) >= 2


@pytest.mark.slow
def test_killed_workers_lose_nothing() -> None:
    """1,000 calls, a worker killed every second: each answered call counts once, nothing steps back."""
    check(1000, kill_every_s=1.0)


@pytest.mark.soak
def test_killed_workers_lose_nothing_in_the_long_run() -> None:
    """The same with 20,000 calls and a kill every 2 seconds."""
    check(20_000, kill_every_s=2.0)
