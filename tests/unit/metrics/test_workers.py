"""Workers add up: any scrape is the sum over the living and the dead, and never steps back."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.metrics import CallbackOptions, Observation

from otel_genapp import semconv
from otel_genapp.metrics import pull, workers
from otel_genapp.metrics.instance import Instance
from otel_genapp.metrics.prometheus import SYSTEM_SCOPE
from otel_genapp.state_directory import StateDirectory
from tests.builders import call
from tests.metric_workers import Samples, Start, Worker, files

REQUESTS, SECONDS = "genapp_http_requests_total", "genapp_http_request_duration_sec_sum"
CALLS, COST = "genapp_llm_requests_total", "genapp_llm_cost_usd_total"
GROWS = ("_total", "_bucket", "_count", "_sum")


def steps_back(before: Samples, after: Samples) -> list[str]:
    return [
        f"{key}: {value} -> {after.get(key)}"
        for key, value in before.items()
        if key[0].startswith("genapp_") and key[0].endswith(GROWS) and after.get(key, 0) < value
    ]


def test_whoever_is_scraped_answers_for_all(start: Start) -> None:
    """Counters and histograms of three workers are summed, whichever of them is asked."""
    one, two, three = start(), start(), start()
    one.ask("/a", times=3)
    two.ask("/a")
    two.ask("/b", seconds=2)
    for worker in (one, two, three):
        found = worker.scrape()
        labels = (("app_type", "flask"), ("method", "GET"), ("resource", "/a"), ("status", "200"))
        assert found[REQUESTS, labels] == 4
        assert found[SECONDS, labels] == 1
        assert worker.value(REQUESTS, resource="/b") == 1
        assert worker.value("genapp_http_request_duration_sec_bucket", resource="/b", le="1.0") == 0
        assert worker.value("genapp_http_request_duration_sec_bucket", resource="/b", le="2.5") == 1


def test_gauges_merge_by_their_rule(start: Start) -> None:
    """What is in flight is the sum of the living; what the store says is said once."""
    one, two, three = start(), start(), start()
    for worker in (one, two, three):
        worker.gauges |= {"genapp_llm_in_flight": 2.0, "genapp_active_sessions": 7.0}
    assert (one.value("genapp_llm_in_flight"), one.value("genapp_active_sessions")) == (6, 7)
    assert one.metrics.living == 3
    three.die()
    assert (one.value("genapp_llm_in_flight"), one.value("genapp_active_sessions")) == (4, 7)
    assert one.metrics.living == 2


def said(value: float, _options: CallbackOptions) -> list[Observation]:
    return [Observation(value, {"type": "user"})]


def test_system_figures_of_processes_add_up(start: Start) -> None:
    """What processes used is summed, with the dead where it only grows; the host's figures are the host's."""
    one, two, three = start(), start(), start()
    for worker in (one, two, three):
        meter = worker.provider.get_meter(SYSTEM_SCOPE)
        for kind, name, value in (
            (meter.create_observable_counter, "process.cpu.time", 0.1),
            (meter.create_observable_gauge, "process.memory.usage", 50),
            (meter.create_observable_counter, "system.cpu.time", 7),
        ):
            kind(name, [partial(said, value)])
    three.die()
    two.scrape()
    assert [
        (
            one.value("process_cpu_time_total"),
            one.value("process_memory_usage"),
            one.value("system_cpu_time_total"),
        )
        for _ in range(2)
    ] == [(0.2, 100, 7)] * 2
    with two.metrics._files.alone(0):  # dead, and not merged yet
        two.die()
        assert (one.value("process_cpu_time_total"), one.value("process_memory_usage")) == (0.2, 50)
    assert (one.value("process_cpu_time_total"), one.value("process_memory_usage")) == (0.2, 50)


def test_the_dead_stay_counted(start: Start, state: StateDirectory) -> None:
    """What dead workers had written counts on; their files become one."""
    one, two, three = start(), start(), start()
    two.ask(times=2)
    three.ask(times=3)
    assert one.value(REQUESTS) == 5
    two.die()
    three.metrics.end()
    assert one.value(REQUESTS) == 5
    assert files(state) == [
        "metrics-1",
        "metrics-1.lock",
        "metrics-1.sock",
        "metrics-shop-dead",
        "metrics-shop-merge",
    ]
    assert start().value(REQUESTS) == 5


def test_what_a_dead_journal_holds_beyond_its_snapshot_counts_once(start: Start) -> None:
    """Records never folded, folded and not written down, and in no snapshot at all: each counts once."""
    one, two, three = start(), start(), start()
    two.call(call("a", cost_nano_usd=10**8), call("b"))
    assert one.value(CALLS) == 2
    two.call(call("c", cost_nano_usd=2 * 10**8))  # folded, and not written down
    two.call(call("d"), fold_them=False)
    three.call(call("e"))
    two.die()
    three.die()
    for _ in range(3):
        assert one.value(CALLS) == 5
        assert one.value(COST) == pytest.approx(0.3)
        assert one.value("genapp_llm_request_duration_sec_count") == 5
        assert one.value("genapp_llm_tokens_total", type="input") == 500


def test_nothing_steps_back_in_any_order(start: Start) -> None:
    """300 random things happen, fractions, deaths and births among them: no sample ever falls."""
    chance = random.Random(3)  # noqa: S311 - repeatable on purpose
    living = [start() for _ in range(4)]
    before: Samples = {}
    for number in range(300):
        worker = chance.choice(living)
        worker.ask(f"/{number % 5}", seconds=chance.random())
        worker.call(
            call(f"c{number}", cost_nano_usd=chance.randrange(10**6), duration_ms=chance.random() * 1e3)
        )
        if chance.random() < 0.1:
            living.remove(worker)
            chance.choice((worker.die, worker.metrics.end))()
            living.append(start(f"{number + 100}"))
        after = chance.choice(living).scrape()
        assert steps_back(before, after) == []
        before = after
    assert sum(value for (name, _), value in before.items() if name == CALLS) == 300


def test_budgets_hold_in_the_sum(start: Start) -> None:
    """Four workers with 190 routes each, and one more after their deaths: 200 are named, all are counted."""
    living = [start() for _ in range(4)]
    for number, worker in enumerate(living):
        for route in range(190):
            worker.ask(f"/{number}/{route}")
        worker.call(*(call(f"{number}-{model}", model=f"m{number}-{model}") for model in range(60)))
    named: list[set[str]] = []
    for _ in range(2):
        for worker in living[:2]:
            routes = {dict(labels)["resource"] for name, labels in worker.scrape() if name == REQUESTS}
            named.append(routes)
            assert worker.value(REQUESTS) == 4 * 190
            assert worker.value(CALLS) == 240
        if living[-1].metrics.active:
            living[-1].die()
    assert all(routes == named[0] for routes in named)
    assert len(named[0]) == 200 + 1
    assert semconv.OVERFLOW in named[0]
    found = {dict(labels)["model"] for name, labels in living[0].scrape() if name == CALLS}
    assert len(found) == semconv.LABEL_BUDGETS["model"] + 1


def test_replayed_records_keep_to_the_budgets(start: Start) -> None:
    """Models only a dead worker's journal names do not make the sum overflow."""
    one, two = start(), start()
    two.call(*(call(f"{model}", model=f"m{model}") for model in range(150)), fold_them=False)
    two.die()
    found = {dict(labels)["model"] for name, labels in one.scrape() if name == CALLS}
    assert (len(found), one.value(CALLS)) == (semconv.LABEL_BUDGETS["model"] + 1, 150)


def test_a_pull_folds_first(start: Start) -> None:
    """A call that waits to be folded in another worker is in the scrape."""
    one, two = start(), start()
    two.call(fold_them=False)
    assert one.value(CALLS) == 1
    assert (one.drained, two.drained) == (0, 1)


def test_a_single_process_shares_nothing(start: Start, state: StateDirectory) -> None:
    """A server without workers writes no file, has no thread and asks nobody."""
    before = set(threading.enumerate())
    alone = start(instance=Instance("shop", is_worker=False))
    alone.ask()
    assert (alone.value(REQUESTS), alone.metrics.active) == (1, False)
    assert files(state) == []
    assert set(threading.enumerate()) <= before


def test_a_process_joins_the_children_it_started(start: Start) -> None:
    """Where a process that `multiprocessing` spawned counts too, both answer for both."""
    parent = start(instance=Instance("shop", is_worker=False))
    parent.ask()
    assert parent.value(REQUESTS) == 1
    child = start()
    child.ask(times=2)
    assert (parent.value(REQUESTS), child.value(REQUESTS)) == (3, 3)


def test_a_master_that_forks_is_added(start: Start, state: StateDirectory) -> None:
    """What a preloading master counted before it forked is in its workers' scrapes."""
    master = start(instance=Instance("shop", is_worker=False))
    master.ask(times=2)
    master.metrics.forked()
    worker = start()
    deadline = time.monotonic() + 5
    while worker.value(REQUESTS) != 2:
        assert time.monotonic() < deadline
    assert "metrics-1.sock" not in files(state)
    master.metrics.forked()
    assert master.metrics._noting is not None
    master.metrics._noting.join(5)
    assert not master.metrics._is_flushing


def test_what_is_new_is_written_within_the_interval(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody scrapes, and a killed worker's requests of a while ago are there; idle it writes nothing."""
    monkeypatch.setattr(workers, "FLUSH_EVERY_S", 0.2)
    one, two = start(), start()
    two.ask()
    folder = one.metrics._state.path
    assert folder is not None
    snapshot = folder / f"metrics-shop-{two.name}"
    deadline = time.monotonic() + 5
    while two.metrics._written != two.instruments.revision():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(3 * workers.FLUSH_EVERY_S)
    before = snapshot.stat()
    time.sleep(3 * workers.FLUSH_EVERY_S)
    assert snapshot.stat().st_mtime_ns == before.st_mtime_ns
    two.die()
    assert one.value(REQUESTS) == 1


def test_who_joins_merges_the_dead(
    start: Start, state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody scrapes, dead workers' files do not pile up: those who come after them merge them."""
    for _ in range(5):
        worker = start()
        worker.metrics._persist(worker.metrics._take)
        worker.die()
    monkeypatch.setattr(workers, "FLUSH_EVERY_S", 0.01)
    start()
    deadline = time.monotonic() + 5
    while len(files(state)) > 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_a_scrape_asks_the_store(start: Start) -> None:
    """Gauges read from a store are asked for by the worker that is scraped, once, and by nobody else."""
    one, two = start(), start()
    two.ask()
    one.scrape()
    assert one.asked.count("genapp_active_sessions") == 1
    assert set(two.asked) == {"genapp_llm_in_flight"}


def test_an_idle_worker_writes_nothing_when_asked(start: Start) -> None:
    """Asked again with nothing new it leaves its file alone; a gauge that moved, or a minute gone by, is new."""
    one, two = start(), start()
    two.ask()
    assert one.value(REQUESTS) == 1
    assert one.metrics._state.path is not None
    file = one.metrics._state.path / f"metrics-shop-{two.name}"
    before = file.stat().st_ino, file.stat().st_mtime_ns
    assert one.value(REQUESTS) == 1
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    two.gauges["genapp_llm_in_flight"] = 3.0
    assert one.value("genapp_llm_in_flight") == 3
    two.metrics._written_at_s -= workers.REFRESH_S
    before = file.stat().st_ino, file.stat().st_mtime_ns
    one.scrape()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) != before


def test_segments_are_needed_until_they_are_folded(start: Start) -> None:
    """A worker's own from its position on, a dead worker's until it is merged, nobody else's."""
    one, two = start(), start()
    assert one.metrics.needs(f"journal-{one.name}-000000")
    one.call()
    two.call()
    one.scrape()
    two.die()
    assert one.metrics.needs(f"journal-{one.name}-000000")
    assert one.metrics.needs(f"journal-{two.name}-000000")
    one.scrape()
    assert not one.metrics.needs(f"journal-{two.name}-000000")
    assert not one.metrics.needs(f"journal-{'f' * 16}-000000")


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_a_socket_is_reached_in_a_deep_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_descriptors: bool
) -> None:
    """Where the path is too long for an address, workers ask each other all the same; no socket is left."""
    if not has_descriptors:
        monkeypatch.setattr(pull, "_DESCRIPTORS", Path("/nowhere"))
        monkeypatch.setattr(pull, "_SHORT_BASE", tmp_path)
    state = StateDirectory(tmp_path / ("d" * 120) / "shop-dev")
    one, two = (Worker(state, name, {}) for name in "12")
    assert one.metrics._server is not None
    assert one.metrics._server.answers
    two.ask()
    assert one.value(REQUESTS) == 1
    one.metrics.end()
    two.metrics.end()
    assert [path for path in tmp_path.rglob("*") if path.is_socket()] == []
