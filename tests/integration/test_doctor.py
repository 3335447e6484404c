"""`otel-genapp doctor` as a process: planted faults are found, each with its remedy, and nothing hangs."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # ships no types
import opentelemetry.instrumentation.auto_instrumentation as automatic
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.ledger.sql import SQLStore
from tests.builders import call
from tests.commands import Done, run_command
from tests.faults.flaky_collector import collecting
from tests.faults.worker_fleet import Fleet, gunicorn_fleet
from tests.fresh import in_fresh_process

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Findings = list[dict[str, str]]


def problems(done: Done, check: str, level: str = "problem") -> Findings:
    """What a check found of a level; the exit code says the same as the findings."""
    assert "Traceback" not in done.error
    found: Findings = done.json["findings"]
    is_bad = any(each["level"] == "problem" for each in found)
    assert (done.code, done.json["ok"]) == ((1, False) if is_bad else (0, True))
    return [each for each in found if (each["check"], each["level"]) == (check, level)]


def only(done: Done, check: str, level: str = "problem") -> dict[str, str]:
    [single] = problems(done, check, level)
    return single


def doctor(*arguments: str, **given: str) -> Done:
    return run_command("doctor", "--json", *arguments, **given)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gunicorn that made a call."""
    with FakeLLMServer() as llm:
        settings = {"MODEL_URL": llm.base_url, "GENAPP_STATE_DIR": str(tmp_path_factory.mktemp("state"))}
        with gunicorn_fleet("tests.programs.shop_with_model", settings, workers=1) as fleet:
            assert fleet.get("/ask?kind=plain&id=anna")[0] == 200
            yield fleet


def test_a_good_set_up() -> None:
    """Nothing to complain about: exit code 0, a line for each check, nothing on stderr, no state made."""
    with collecting() as collector:
        done = doctor("--app", "shop", **{ENDPOINT: collector.endpoint, "GENAPP_ENV": "dev"})
    assert (done.code, done.error, done.json["ok"]) == (0, "", True)
    assert {each["level"] for each in done.json["findings"]} == {"ok"}
    assert sum(done.json["counts"].values()) == len(done.json["findings"]) > 15
    text = run_command("doctor")
    assert (text.code, text.error, "\x1b" in text.out) == (0, "", False)
    assert text.out.splitlines()[2].split()[:3] == ["python", "ok", "Python"]


def test_the_ports_are_mixed_up() -> None:
    """4317 with http/protobuf and 4318 with grpc name the right port."""
    http = doctor(**{ENDPOINT: "http://127.0.0.1:4317"})
    assert "use port 4318" in only(http, "otlp")["remedy"]
    grpc = doctor(**{ENDPOINT: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "use port 4317" in only(grpc, "otlp")["remedy"]


def test_no_token_in_production() -> None:
    """The guarded endpoints would be missing, and the remedy names the variable."""
    done = doctor(GENAPP_APP="shop", GENAPP_ENV="prod")
    assert "set GENAPP_INTERNAL_AUTH" in only(done, "token")["remedy"]


def test_a_dead_collector() -> None:
    """Nobody listens: the address and the variable are named."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    single = only(doctor(**{ENDPOINT: f"http://127.0.0.1:{port}"}), "collector")
    assert (f"127.0.0.1:{port}" in single["finding"], ENDPOINT in single["remedy"]) == (True, True)


@pytest.mark.parametrize(
    ("mode", "said"), [("401", "refuses the credentials"), ("404", "takes no traces"), ("503", "503")]
)
def test_a_collector_that_refuses(mode: str, said: str) -> None:
    """401 is named as such, and so are the others."""
    with collecting(mode) as collector:
        found = problems(doctor(**{ENDPOINT: collector.endpoint}), "collector")
    assert said in found[0]["finding"]
    assert mode in found[0]["finding"]
    assert ("OTEL_EXPORTER_OTLP_HEADERS" in found[0]["remedy"]) == (mode == "401")


class Guarded(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector's receiver that wants a token."""

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own name
        if ("authorization", "right") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return trace_service_pb2.ExportTraceServiceResponse()


def doctor_over_grpc() -> list[Findings]:
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Guarded(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    variables = {ENDPOINT: f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    refused = problems(doctor(**variables), "collector")
    taken = problems(doctor(**variables, OTEL_EXPORTER_OTLP_HEADERS="authorization=right"), "collector", "ok")
    server.stop(None).wait()
    return [refused, taken]


def test_a_collector_over_grpc() -> None:
    """A collector over gRPC is asked too: without its token it refuses, with it all is well."""
    [[refused], [taken]] = in_fresh_process(doctor_over_grpc)
    assert "refuses the credentials for traces (gRPC status UNAUTHENTICATED)" in refused["finding"]
    assert taken["finding"].endswith("takes traces")


@pytest.mark.parametrize("mode", ["hang", "black_hole", "drip"])
def test_a_collector_that_never_answers(mode: str) -> None:
    """The report is there soon after its deadline."""
    began = time.monotonic()
    with collecting(mode) as collector:
        found = problems(doctor("--timeout", "3", **{ENDPOINT: collector.endpoint}), "collector")
    assert (len(found), time.monotonic() - began < 12) == (1, True)


def test_an_unwritable_state_directory() -> None:
    """A place nothing can be made in is named with the variable."""
    done = doctor(GENAPP_APP="shop", GENAPP_STATE_DIR="/dev/null/state")
    single = only(done, "state directory")
    assert ("/dev/null/state" in single["finding"], "set GENAPP_STATE_DIR" in single["remedy"]) == (
        True,
        True,
    )


def test_a_state_directory_that_is_a_link(tmp_path: Path) -> None:
    """A link is refused."""
    tmp_path.chmod(0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "shop-dev").symlink_to(tmp_path / "elsewhere")
    done = doctor(GENAPP_APP="shop", GENAPP_STATE_DIR=str(tmp_path))
    single = only(done, "state directory")
    assert ("is a symbolic link" in single["finding"], "GENAPP_STATE_DIR" in single["remedy"]) == (True, True)


def test_a_misspelt_variable() -> None:
    """The nearest right name is the remedy, and the value is not shown."""
    done = doctor(GENAPP_INTERNAL_AUHT="hunter2-value")
    assert only(done, "variables")["remedy"] == "rename it to GENAPP_INTERNAL_AUTH"
    assert "hunter2" not in done.out + done.error


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    """A schema from the future asks for a newer package, and stays as it is."""
    path = tmp_path / "own.db"
    store = SQLStore.open(f"sqlite:///{path}")
    store.apply([call("1")])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE genapp_meta SET value = 99 WHERE name = 'version'")
    connection.close()
    before = path.read_bytes()
    done = doctor("--store", f"sqlite:///{path}")
    single = only(done, "store")
    assert ("version 99" in single["finding"], "newer otel-genapp" in single["remedy"]) == (True, True)
    assert path.read_bytes() == before


def test_a_database_that_is_away() -> None:
    """Without its server the store is a problem, and its password is not shown."""
    done = doctor(GENAPP_STORE="postgresql+psycopg://anna:hunter2@127.0.0.1:9/shop")
    assert "GENAPP_STORE" in only(done, "store")["remedy"]
    assert "hunter2" not in done.out


def test_double_instrumentation(tmp_path: Path) -> None:
    """Automatic instrumentation at work, and OpenInference and OpenLLMetry beside us, are warnings."""
    for name in ("openinference_instrumentation_openai", "opentelemetry_instrumentation_openai"):
        folder = tmp_path / f"{name}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9\n"
        )
    [auto] = automatic.__path__
    done = doctor(PYTHONPATH=f"{auto}:{tmp_path}")
    found = problems(done, "doubles", "warning")
    assert [text["finding"].split()[0] for text in found] == [
        "openinference-instrumentation-openai", "opentelemetry-instrumentation-openai", "automatic",
    ]  # fmt: skip
    assert "pip uninstall openinference-instrumentation-openai" in found[0]["remedy"]
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS" in found[2]["remedy"]


def test_a_broken_price_file(tmp_path: Path) -> None:
    """A file that cannot be read as prices is named."""
    file = tmp_path / "prices.toml"
    file.write_text("[[price]]\nprovider = ")
    single = only(doctor(GENAPP_PRICES=str(file)), "prices")
    assert ("prices.toml" in single["finding"], "prices check" in single["remedy"]) == (True, True)


def test_a_disabled_sdk() -> None:
    """OTEL_SDK_DISABLED is found."""
    assert only(doctor(OTEL_SDK_DISABLED="true"), "disabled")["remedy"] == "unset OTEL_SDK_DISABLED"


def test_a_sampler_that_is_none() -> None:
    """A misspelt sampler gets the nearest one."""
    done = doctor(OTEL_TRACES_SAMPLER="parentbased_ratio")
    assert "nearest is parentbased_traceidratio" in only(done, "sampler")["remedy"]


def test_a_running_service(served: Fleet) -> None:
    """With its token all is well; a wrong one is a problem, and is not shown."""
    url = f"http://127.0.0.1:{served.port}"
    good = doctor("--url", url, GENAPP_INTERNAL_AUTH="test")
    assert [each["finding"] for each in problems(good, "service", "ok")] == [
        f"{url}/prometheus: nothing lost, no label folded, no own errors",
        f"{url}/events/metrics takes the token: 1 LLM calls",
    ]
    wrong = doctor("--url", url, "--token", "hunter2-wrong")
    single = only(wrong, "service")
    assert ("refuses the token (401)" in single["finding"], "--token" in single["remedy"]) == (True, True)
    assert "hunter2" not in wrong.out + wrong.error
    assert "wants a token" in only(doctor("--url", url), "service", "warning")["finding"]


def test_a_service_that_is_not_there() -> None:
    """Nobody, and somebody who never answers, are problems in time."""
    away = only(doctor("--url", "http://127.0.0.1:9"), "service")
    assert "cannot be reached" in away["finding"]
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        began = time.monotonic()
        done = doctor("--timeout", "2", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert (len(problems(done, "service")), time.monotonic() - began < 8) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "shop:80"),
        ("--env", "production"),
        ("--store", "mysql://db"),
        ("--timeout", "0"),
        ("--nonsense",),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Options that cannot work end with 2, a line, and no report."""
    done: Any = doctor(*arguments)
    assert (done.code, done.out, "Traceback" in done.error) == (2, "", False)


def test_options_do_not_stand_for_the_environment() -> None:
    """A wrong value in the environment is a finding, whatever the options say."""
    done = doctor("--env", "prod", "--app", "shop", GENAPP_SESSION_LIMIT="many")
    assert "GENAPP_SESSION_LIMIT must be a whole number" in only(done, "settings")["finding"]


def test_many_faults_at_once() -> None:
    """One does not hide the others."""
    done = doctor(
        GENAPP_APP="shop", GENAPP_ENV="production", GENAPP_STOER="x", OTEL_SDK_DISABLED="true",
        GENAPP_PRICES="/nowhere.toml", GENAPP_STATE_DIR="/dev/null/x",
    )  # fmt: skip
    bad = {each["check"] for each in done.json["findings"] if each["level"] == "problem"}
    assert bad == {"variables", "settings", "disabled", "prices", "state directory"}
    assert done.code == 1
