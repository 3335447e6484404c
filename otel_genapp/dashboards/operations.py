"""For those on call: what comes in and out, how fast, what fails, what is full, and whether telemetry is well."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.dashboards.boards import BYTES, COUNT, PER_SECOND, RATIO, SECONDS, Board, Panel, Row
from otel_genapp.dashboards.queries import Query, gauge, increase, quantile, rate, share

_SERVER = {"app_type": "=~fastapi|flask"}
_CLIENT = {"app_type": "=~httpx|httpx2|aiohttp"}
_FAILED = {"status": "=~5..|error|timeout"}
_QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def make_board() -> Board:
    """The board of operations."""
    return Board(
        "operations",
        "Gen apps: operations",
        "Rate, errors and duration by resource, saturation, targets and the health of telemetry itself.",
        rows=(_at_a_glance(), _served(), _called(), _saturation(), _telemetry()),
    )


def _at_a_glance() -> Row:
    return Row(
        "At a glance",
        (
            Panel(
                "Requests served", "Requests a second of the apps' own endpoints. A fall to 0 with targets up "
                "means that nobody reaches the app: look at the proxy and the network before it.",
                (Query(rate(semconv.HTTP_REQUESTS, where=_SERVER)),),
                "number", PER_SECOND, 6, 4, seen_after_demo=True,
            ),
            Panel(
                "Failed requests", "Share of served requests that ended with 5xx, an error or a timeout. "
                "Above 1 %: find the resource below, then one of its traces through an exemplar.",
                (Query(_failure_share(_SERVER)),),
                "number", RATIO, 6, 4, limits=(0.01, 0.05), seen_after_demo=True,
            ),
            Panel(
                "p95 of served requests", "95 of 100 requests are faster, streams counted to their end. Answers "
                "of an LLM dominate it: compare with the AI board before looking for a slow database.",
                (Query(quantile(0.95, semconv.HTTP_DURATION, where=_SERVER)),),
                "number", SECONDS, 6, 4, seen_after_demo=True,
            ),
            Panel(
                "Targets down", "Scrape targets Prometheus does not reach, of all jobs. Not 0: numbers of that "
                "target are missing everywhere; look at Prometheus under Status, Targets.",
                (Query("count(up == 0) or vector(0)"),),
                "number", COUNT, 6, 4, limits=(1, 2), seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _served() -> Row:
    return Row(
        "Served: rate, errors, duration",
        (
            Panel(
                "Requests by resource", "Requests a second by route template and kind of app. `__unmatched__` is "
                "a path no route has: scanners, or a client with an old address.",
                (Query(rate(semconv.HTTP_REQUESTS, "resource", "app_type", where=_SERVER),
                       "{{app_type}} {{resource}}"),),
                unit=PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Errors by resource", "Share of each resource's requests that failed with 5xx, an error or a "
                "timeout. One resource: its code or what it calls; all of them: the deployment.",
                (Query(_failure_share(_SERVER, "resource", "app_type"), "{{app_type}} {{resource}}"),),
                unit=RATIO, limits=(0.01, 0.05), seen_after_demo=True,
            ),
            Panel(
                "Duration", "Quantiles over all served requests. p50 and p99 apart: a few slow ones; both up: "
                "everything waits for the same thing, see saturation. Points are exemplars: they open a trace.",
                tuple(Query(quantile(part, semconv.HTTP_DURATION, where=_SERVER), name)
                      for part, name in _QUANTILES),
                unit=SECONDS, seen_after_demo=True,
            ),
            Panel(
                "p95 by resource", "95 of 100 requests to the resource are faster. The slow one names the code to "
                "profile, or the LLM call to shorten.",
                (Query(quantile(0.95, semconv.HTTP_DURATION, "resource", where=_SERVER), "{{resource}}"),),
                unit=SECONDS, seen_after_demo=True,
            ),
            Panel(
                "Statuses", "Requests a second by status: the code, or `499` where the caller went away. Many 499 "
                "mean that people do not wait for the answer; many 401 a wrong token.",
                (Query(rate(semconv.HTTP_REQUESTS, "status", where=_SERVER), "{{status}}"),),
                "stacked", PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Body sizes (p95)", "Size of bodies by direction. Growing requests are long histories sent again "
                "and again, and they cost tokens.",
                (Query(quantile(0.95, semconv.HTTP_SIZE, "direction", where=_SERVER), "{{direction}}"),),
                unit=BYTES, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _called() -> Row:
    return Row(
        "Called: what the apps depend on",
        (
            Panel(
                "Calls by resource", "Outgoing requests a second, by host or host and path template. A host that "
                "should not be there is a finding by itself.",
                (Query(rate(semconv.HTTP_REQUESTS, "resource", "app_type", where=_CLIENT),
                       "{{app_type}} {{resource}}"),),
                unit=PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Failed calls by resource", "Share of outgoing requests that failed with 5xx, no connection or a "
                "timeout. It is theirs: check their status page, then retries and time limits of the client.",
                (Query(_failure_share(_CLIENT, "resource"), "{{resource}}"),),
                unit=RATIO, limits=(0.01, 0.05), seen_after_demo=True,
            ),
            Panel(
                "p95 of calls by resource", "95 of 100 calls are faster. A dependency that slows down shows here "
                "before it shows in the served requests.",
                (Query(quantile(0.95, semconv.HTTP_DURATION, "resource", where=_CLIENT), "{{resource}}"),),
                unit=SECONDS, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _saturation() -> Row:
    return Row(
        "Saturation and health",
        (
            Panel(
                "CPU", "Processor seconds a second of the answering process: 1 is one core. Near 1 with rising "
                "durations: more workers, or something blocks the event loop.",
                (Query(_process("process_cpu_time_seconds_total", "rate"), "{{app}} {{instance}}"),),
                unit=COUNT, seen_after_demo=True,
            ),
            Panel(
                "Memory of the process", "Resident memory of the answering process. A line that only rises is a "
                "leak: restart to get time, compare with the version before.",
                (Query(_process("process_memory_usage_bytes", "max"), "{{app}} {{instance}}"),),
                unit=BYTES, seen_after_demo=True,
            ),
            Panel(
                "Memory and disks of the host", "Used part of memory and of each watched file system. Above 90 % "
                "of a disk the journal stops keeping records soon: make room.",
                (
                    Query(gauge(semconv.MEMORY_USED, "app", of="max"), "memory, {{app}}"),
                    Query(gauge(semconv.DISK_USED, "app", "path", of="max"), "{{path}}, {{app}}"),
                ),
                unit=RATIO, limits=(0.8, 0.9), seen_after_demo=True,
            ),
            Panel(
                "Open files and threads", "Open descriptors and threads of the answering process. Descriptors "
                "that only rise are connections nobody closes.",
                (
                    Query(_process("process_open_file_descriptor_count", "max"), "files, {{app}} {{instance}}"),
                    Query(_process("process_thread_count", "max"), "threads, {{app}} {{instance}}"),
                ),
                seen_after_demo=True,
            ),
            Panel(
                "Health checks", "1 passed, 0 failed, the worst of the workers. 0 makes /health answer 503: what "
                "the check is named after does not answer.",
                (Query(gauge(semconv.HEALTH_UP, "app", "check", of="min"), "{{app}} {{check}}"),),
                limits=(1, 1), low_is_bad=True, seen_after_demo=True,
            ),
            Panel(
                "Targets up", "1 where Prometheus reached the target. A target that flaps is restarting or too "
                "slow to be scraped in time.",
                (Query("min by (job, instance) (up)", "{{job}} {{instance}}"),),
                limits=(1, 1), low_is_bad=True, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _telemetry() -> Row:
    return Row(
        "Telemetry's own health",
        (
            Panel(
                "Own errors", "Errors of the telemetry that were swallowed so that the app goes on, over the time "
                "shown. Not 0: the log has each site once a minute; please report it.",
                (Query(increase(semconv.TELEMETRY_ERRORS, "where"), "{{where}}"),),
                "bars", COUNT, 6, limits=(1, 10), seen_after_demo=True,
            ),
            Panel(
                "Dropped", "Telemetry lost over the time shown, by what and why. `queue_full` and `spool_full`: "
                "the backend was away too long; `disk_full`: make room.",
                (Query(increase(semconv.TELEMETRY_DROPPED, "what", "reason") + " > 0", "{{what}} {{reason}}"),),
                "bars", COUNT, 6, limits=(1, 100),
            ),
            Panel(
                "Calls made and not stored", "LLM calls created minus stored. A moment's difference is normal, "
                "a growing one means that the store does not take them: `otel-genapp doctor` says why.",
                (Query(
                    f"{gauge(semconv.TELEMETRY_RECORDS, where={'kind': '=llm_call', 'state': '=created'})}\n"
                    f"  -\n{gauge(semconv.TELEMETRY_RECORDS, where={'kind': '=llm_call', 'state': '=stored'})}",
                    "waiting",
                ),),
                unit=COUNT, width=6, limits=(100, 1000), seen_after_demo=True,
            ),
            Panel(
                "Folded label values", "Measurements counted under `__other__`, since a label had too many "
                "values. Sums stay exact; give the label fewer values to see the parts again.",
                (Query(increase(semconv.TELEMETRY_FOLDED, "metric", "label") + " > 0", "{{metric}} {{label}}"),),
                "bars", COUNT, 6,
            ),
        ),
    )  # fmt: skip


def _failure_share(side: dict[str, str], *by: str) -> str:
    return share(
        rate(semconv.HTTP_REQUESTS, *by, where={**side, **_FAILED}),
        rate(semconv.HTTP_REQUESTS, *by, where=side),
    )


def _process(name: str, of: str) -> str:
    """A figure of the system-metrics instrumentation; its types are added up."""
    selector = f'{name}{{env=~"$env", app=~"$app"}}'
    if of == "rate":
        return f"sum by (app, instance) (rate({selector}[$__rate_interval]))"
    return f"{of} by (app, instance) ({selector})"
