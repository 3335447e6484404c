"""What the stores promise that several processes share: exact with many writers, however large."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from otel_genapp import semconv
from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.clickhouse import store as clickhouse_store
from otel_genapp.ledger.rollup import Rollup
from otel_genapp.ledger.sql import cells
from otel_genapp.ledger.store import Store
from otel_genapp.records import UsageRecord
from tests.builders import MINUTE_NS, START_NS, amendment, call
from tests.conformance.stores import SHARED, Factory, open_at, opened_at
from tests.servers import Servers

PROCESSES, RECORDS, BATCH = 4, 10_000, 5_000
ADDED_UP_S = 4e-7
"""A call's share of the sums of a store that makes them when it is asked: four times what it takes on two cores."""
DAY_NS = 24 * 60 * MINUTE_NS


@pytest.fixture(params=SHARED)
def url(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    with SHARED[request.param](servers) as url:
        yield url


@pytest.fixture
def open_store(url: str) -> Iterator[Factory]:
    with opened_at(url) as factory:
        yield factory


def test_two_see_the_same(open_store: Factory) -> None:
    """What one has taken in, the other reads at once, and does not take in again."""
    one, other = open_store(), open_store()
    assert one.apply((call("1"),), through={"journal-a": 10}) == 1
    assert other.apply((call("1"), call("2")), through={"journal-b": 20}) == 1
    assert one.session("s1") == other.session("s1")
    assert one.totals().overall.calls == 2
    assert one.positions() == other.positions() == {"journal-a": 10, "journal-b": 20}
    assert one.clear("s1")
    assert (other.session("s1"), other.totals().overall.calls) == (None, 2)


def test_a_part_of_a_journal_counts_once_without_its_detail(open_store: Factory) -> None:
    """What was read and has been aged out since is not counted again by one who still holds the same part."""
    store = open_store()
    old, recent = call("old"), call("recent", started_at_ns=START_NS + DAY_NS)
    part = {"journal-a": 100}
    assert store.apply((old, recent), through=part) == 2
    assert store.tidy(before_ns=START_NS + MINUTE_NS) == 0
    assert store.apply((old, recent), through=part) == 0
    store.forget(["journal-a"])
    assert store.positions() == {}
    assert store.apply((old, recent), through=part) == 0
    assert (store.totals().overall.calls, store.positions()) == (2, {})
    # In a part that nobody has read an old record is a new one.
    assert store.apply((call("late"),), through={"journal-b": 10}) == 1


def test_a_cleared_record_counts_once(open_store: Factory) -> None:
    """Clearing leaves what is needed to know a second delivery, whatever else comes with it."""
    store = open_store()
    records: list[UsageRecord] = [call(str(number)) for number in range(10)]
    records.append(amendment("3"))
    assert store.apply(records) == 11
    assert store.clear("s1")
    assert store.apply((*records, call("new"))) == 1
    session = store.session("s1")
    assert session is not None
    assert (session.sums.calls, store.totals().overall.calls) == (1, 11)
    assert [found.call_id for found in store.history("s1", limit=20, cursor=None).calls] == ["new"]


def test_the_oldest_detail_goes_first(open_store: Factory) -> None:
    """Past a size the oldest sessions and calls go until it is kept; the totals do not change."""
    store = open_store()
    store.apply(
        call(str(number), session_id=f"s{number // 10}", started_at_ns=START_NS + number * MINUTE_NS)
        for number in range(1000)
    )
    before = store.totals()
    assert store.tidy(before_ns=0, keep_bytes=10**9) == 0
    removed = store.tidy(before_ns=0, keep_bytes=200 * 500)
    kept = store.sessions(limit=1000, cursor=None)
    assert 0 < removed == 100 - kept.total < 100
    assert kept.ids == tuple(f"s{number}" for number in reversed(range(removed, 100)))
    assert store.tidy(before_ns=0, keep_bytes=200 * 500) == 0
    assert store.tidy(before_ns=0, keep_bytes=0) == kept.total
    assert (store.sessions(limit=5, cursor=None).ids, store.totals()) == ((), before)


def test_models_are_bounded(open_store: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit further models are summed up under one name, so that totals stay exact."""
    for module in (cells, clickhouse_store):
        monkeypatch.setattr(module, "DIFFERENT_MODELS", 5)
    store = open_store()
    store.apply(call(f"a{number}", model="m0") for number in range(3))
    store.apply(call(f"b{number}", model=f"m{number}") for number in range(12))
    found = {model: sums.calls for (_, model), sums in store.totals().by_model.items()}
    assert (len(found), found["m0"], found[semconv.OVERFLOW], sum(found.values())) == (6, 4, 7, 15)
    within = store.totals(from_ns=START_NS, to_ns=START_NS + MINUTE_NS).by_model
    assert {model: sums.calls for (_, model), sums in within.items()} == found


def test_ranges_of_months_are_exact(open_store: Factory) -> None:
    """Long ranges are read from hours and days, and equal what their minutes add up to."""
    store = open_store()
    hour_ns = 60 * MINUTE_NS
    at = [START_NS + number * 7 * hour_ns + number * 13 * MINUTE_NS for number in range(200)]
    calls = [call(str(number), started_at_ns=moment) for number, moment in enumerate(at)]
    store.apply(calls)
    for first, last in ((0, 200), (1, 199), (3, 4), (10, 150), (77, 78), (50, 51)):
        expected = Rollup()
        for one in calls[first:last]:
            expected.add(one)
        end_ns = at[last] if last < 200 else at[-1] + hour_ns
        found = store.totals(from_ns=at[first], to_ns=end_ns).overall
        assert (found.calls, found.tokens, found.buckets) == (last - first, expected.tokens, expected.buckets)


@pytest.mark.expected_own_errors
def test_a_record_that_cannot_be_kept_stops_no_other(open_store: Factory) -> None:
    """One whose duration is no number is left out, reported; one with numbers too large is kept, cut."""
    store = open_store()
    huge = call("huge", cost_nano_usd=2**70, tool_calls=2**70)
    broken = call("broken", duration_ms=float("nan")), call("endless", duration_ms=float("inf"))
    assert store.apply((call("1"), *broken, huge, call("2")), through={"journal-a": 10}) == 3
    overall = store.totals().overall
    assert (overall.calls, overall.cost_nano_usd, overall.tool_calls) == (3, 2**63 - 1, 2**63 - 1)
    assert store.positions() == {"journal-a": 10}


def batch_of(store: Store) -> int:
    """Records it is given at once: many where it wants to be written to now and then."""
    return 500 if store.write_every_s else 100


def deliver(url: str, worker: int, failures: multiprocessing.Queue[str]) -> None:
    """Take in this worker's records, and some that another one has too."""
    store = open_at(url)
    batch = batch_of(store)
    for start in range(0, RECORDS, batch):
        records = [
            call(f"{worker}-{number}", session_id=f"s{number % 50}") for number in range(start, start + batch)
        ]
        shared = call(f"shared {start}", session_id="shared")
        try:
            store.apply((*records, shared), through={f"journal-{worker}": start + batch})
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.put(repr(error))
    store.close()


@pytest.mark.slow
def test_processes_lose_nothing(url: str, open_store: Factory) -> None:
    """4 processes with 10,000 records each at once: none fails, and everything adds up."""
    context = multiprocessing.get_context("spawn")
    failures: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=deliver, args=(url, worker, failures)) for worker in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert failures.empty()
    store = open_store()
    shared = RECORDS // batch_of(store)
    assert store.totals().overall.calls == PROCESSES * RECORDS + shared
    assert store.positions() == {f"journal-{worker}": RECORDS for worker in range(PROCESSES)}
    sums = [store.session(f"s{number}") for number in range(50)]
    assert [found.sums.calls for found in sums if found is not None] == [PROCESSES * RECORDS // 50] * 50


def median_s(act: Callable[[], object]) -> float:
    """How long `act` takes, the first time aside."""
    act()
    took = []
    for _ in range(15):
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def require_as_fast(after_s: float, before_s: float) -> None:
    """With ten times the data and more a read takes no five times as long, a few milliseconds aside."""
    assert after_s < 5 * before_s + 0.002


def totals_s(store: Store, calls: int) -> tuple[float, float]:
    """How long the totals take: of everything, and of nearly everything."""
    first_ns, end_ns = START_NS + MINUTE_NS, START_NS + calls * 10**9 - MINUTE_NS
    return median_s(store.totals), median_s(lambda: store.totals(from_ns=first_ns, to_ns=end_ns))


def fill(store: Store, calls: int) -> dict[str, str | None]:
    """A session `small` of 100 calls and one, `large`, of as many as told; gives a place near the beginning of each."""
    cursors: dict[str, str | None] = {}
    store.apply(call(f"small {number}", session_id="small") for number in range(100))
    for start in range(0, calls, BATCH):
        store.apply(
            call(f"large {number}", session_id="large", started_at_ns=START_NS + number * 10**9)
            for number in range(start, min(start + BATCH, calls))
        )
        for name in ("small", "large"):
            cursors.setdefault(name, store.history(name, limit=40, cursor=None).next)
    return cursors


def require_same_time(store: Store, calls: int) -> None:
    """A session of `calls` calls is read in the time of one of 100, but for what has to be added up."""
    fill(store, BATCH)
    few_s = totals_s(store, BATCH)
    cursors = fill(store, calls)
    adding_up_s = calls * ADDED_UP_S if isinstance(store, ClickHouseStore) else 0
    for read in (
        store.session,
        lambda name: store.history(name, limit=20, cursor=None),
        lambda name: store.history(name, limit=20, cursor=cursors[name]),
    ):
        small_s = median_s(lambda read=read: read("small"))  # type: ignore[misc]
        large_s = median_s(lambda read=read: read("large"))  # type: ignore[misc]
        assert large_s < 4 * small_s + 0.002 + adding_up_s
    large = store.session("large")
    assert large is not None
    assert (large.sums.calls, len(large.newest)) == (calls, 20)
    for many, few in zip(totals_s(store, calls), few_s, strict=True):
        require_as_fast(many - adding_up_s, few)


@pytest.mark.slow
def test_a_large_session_is_read_as_fast(open_store: Factory) -> None:
    """A session of 100,000 calls, its history and the totals take no longer than of 100."""
    store = open_store()
    require_same_time(store, 100_000)


@pytest.mark.soak
def test_a_session_of_a_million_calls_is_read_as_fast(open_store: Factory) -> None:
    """The same with a million; clearing it lets other writers in meanwhile."""
    store = open_store()
    require_same_time(store, 1_000_000)
    start = time.perf_counter()
    assert store.clear("large")
    print(f"cleared in {time.perf_counter() - start:.1f} s")  # noqa: T201 - a figure
    assert store.session("large") is None


@pytest.mark.slow
def test_a_list_of_many_sessions_is_read_as_fast(open_store: Factory) -> None:
    """A page of 100,000 sessions, near the beginning or the end, takes little longer than one of 10,000."""
    store = open_store()

    def begin(first: int, end: int) -> None:
        store.apply(call(str(number), session_id=f"s{number}") for number in range(first, end))

    begin(0, 10_000)
    early = store.sessions(limit=9_500, cursor=None).next
    reads: tuple[Callable[[], object], ...] = (
        lambda: store.sessions(limit=100, cursor=None),
        lambda: store.sessions(limit=100, cursor=early),
        lambda: store.active_sessions(since_ns=START_NS + MINUTE_NS),
    )
    few_s = [median_s(read) for read in reads]
    for start in range(10_000, 100_000, 10_000):
        begin(start, start + 10_000)
    page = store.sessions(limit=100, cursor=None)
    assert (page.ids[0], page.total) == ("s99999", 100_000)
    for read, few in zip(reads, few_s, strict=True):
        require_as_fast(median_s(read), few)
