"""Every metric, label, bucket, attribute and header of this package, once.

README's tables, the instruments, the Views, the label guard and the tests all read this module;
no name of the vocabulary is written anywhere else. Sources: the `genapp_` families are the
house's own contract; `gen_ai.*` attributes follow the OpenTelemetry GenAI conventions, the
others the core semantic conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SCOPE = "otel_genapp"

Kind = Literal["counter", "histogram", "gauge"]
Merge = Literal["sum", "min", "max", "store", "host"]
"""How the values of a gauge in several workers become one; those of the store or the host are the same in all."""

# Buckets in seconds unless a name says otherwise. Floats, so that Prometheus reads le="1.0".
HTTP_DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
LLM_DURATION_BUCKETS = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0,
)  # fmt: skip
SIZE_BUCKETS_BYTES = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7)
RESOLUTION_BUCKETS = (
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0,
)  # fmt: skip
SCORE_BUCKETS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
"""Whole scores of csat (1 to 5) and nps (0 to 10), and fifths of quality (0 to 1)."""

OVERFLOW = "__other__"
UNMATCHED = "__unmatched__"
NO_SESSION = "no_session"

HTTP_METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
)  # fmt: skip
OTHER_METHOD = "_OTHER"
STATUS_ERROR, STATUS_TIMEOUT, STATUS_GONE = "error", "timeout", "499"
APP_TYPES = ("fastapi", "flask", "httpx", "httpx2", "aiohttp")
SUCCESS, FAIL, CANCELLED = "success", "fail", "cancelled"
OUTCOMES = ("resolved", "escalated", "converted", "abandoned")
FEEDBACK_KINDS = ("csat", "nps", "quality")
TOKEN_TYPES = ("input", "output", "cache_read", "cache_write", "reasoning")

SITES = ("capture", "context", "pipeline", "metrics", "ledger", "export", "serve", "subscriber", "lifecycle")
"""Where an own error can happen: the values of `genapp_telemetry_errors_total{where}`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One Prometheus family: its exposed name, kind, labels in order, and how workers merge."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    unit: str = ""
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"
    known: tuple[tuple[str, ...], ...] = field(default=())
    """Label sets known in advance: present from the start with 0."""

    @property
    def instrument(self) -> str:
        """The OTel instrument's name: the exposed one without the suffix its unit or kind adds."""
        for suffix in ("_total", "_bytes", "_sec"):
            if self.name.endswith(suffix):
                return self.name.removesuffix(suffix)
        return self.name

    @property
    def instrument_unit(self) -> str:
        """The OTel unit that makes the official mapping produce `name` exactly.

        `sec` and not `s`: the exporter turns `s` into a `_seconds` suffix.
        """
        if self.name.endswith("_sec"):
            return "sec"
        if self.name.endswith("_bytes"):
            return "By"
        return self.unit


_HTTP = ("method", "status", "resource", "app_type")
_LLM = ("provider", "model")

HTTP_REQUESTS = Metric(
    "genapp_http_requests_total", "counter", _HTTP, "HTTP requests finished, in and out.", "{request}"
)
HTTP_DURATION = Metric(
    "genapp_http_request_duration_sec", "histogram", _HTTP,
    "Time from the first byte of the request to the last of the response.",
    buckets=HTTP_DURATION_BUCKETS,
)  # fmt: skip
HTTP_SIZE = Metric(
    "genapp_http_request_size_bytes", "histogram",
    ("resource", "status", "method", "direction", "app_type"),
    "Body bytes on the wire, by direction (request, response).",
    buckets=SIZE_BUCKETS_BYTES,
)  # fmt: skip
ACTION_COUNT = Metric(
    "genapp_action_count_total", "counter", ("name", "status"), "Actions finished.", "{action}"
)
ACTION_DURATION = Metric(
    "genapp_action_duration_sec", "histogram", ("name",), "Duration of actions.",
    buckets=LLM_DURATION_BUCKETS,
)  # fmt: skip
ACTION_SIZE = Metric(
    "genapp_action_size_total", "counter", ("name",), "Sum of the sizes actions reported.", "1"
)
LLM_REQUESTS = Metric(
    "genapp_llm_requests_total", "counter", ("provider", "model", "operation", "status"),
    "LLM calls finished.", "{request}",
)  # fmt: skip
LLM_DURATION = Metric(
    "genapp_llm_request_duration_sec", "histogram", ("provider", "model", "operation"),
    "Duration of LLM calls, streams to their end.", buckets=LLM_DURATION_BUCKETS,
)  # fmt: skip
LLM_FIRST_TOKEN = Metric(
    "genapp_llm_time_to_first_token_sec", "histogram", ("provider", "model", "operation"),
    "Time to the first chunk of a streamed answer.", buckets=LLM_DURATION_BUCKETS,
)  # fmt: skip
LLM_TOKENS = Metric(
    "genapp_llm_tokens_total", "counter", ("provider", "model", "type"),
    "Tokens providers reported; cache_read and cache_write are parts of input, reasoning of output.",
    "{token}",
)  # fmt: skip
LLM_COST = Metric(
    "genapp_llm_cost_usd_total", "counter", _LLM, "Cost in US dollars of the calls with a price.", "{USD}"
)
LLM_UNPRICED = Metric(
    "genapp_llm_unpriced_requests_total", "counter", _LLM, "LLM calls without a known price.", "{request}"
)
LLM_UNKNOWN_USAGE = Metric(
    "genapp_llm_unknown_usage_total", "counter", _LLM,
    "Answered LLM calls for which nobody reported tokens.", "{request}",
)  # fmt: skip
LLM_TOOL_CALLS = Metric(
    "genapp_llm_tool_calls_total", "counter", _LLM, "Tool calls the models asked for.", "{call}"
)
LLM_ATTEMPTS = Metric(
    "genapp_llm_attempts_total", "counter", ("provider", "model", "status"),
    "HTTP attempts of LLM calls, retries included, by status code.", "{attempt}",
)  # fmt: skip
LLM_IN_FLIGHT = Metric(
    "genapp_llm_in_flight", "gauge", (), "LLM calls started and not finished.", "{request}"
)
ACTIVE_SESSIONS = Metric(
    "genapp_active_sessions", "gauge", (), "Distinct sessions with an LLM call in the last 5 minutes.",
    "{session}", merge="store",
)  # fmt: skip
RATE_LIMIT_REMAINING = Metric(
    "genapp_rate_limit_remaining_ratio", "gauge", ("provider", "kind"),
    "What a provider's last answer left of a rate limit (requests, tokens).", "1", merge="min",
)  # fmt: skip
MESSAGES = Metric(
    "genapp_messages_total", "counter", ("platform", "intent"), "Messages of users handled.", "{message}"
)
ERRORS = Metric(
    "genapp_errors_total", "counter", ("error_type", "service"),
    "Errors unhandled in a request, action, LLM call or handler, or given to record_error.", "{error}",
)  # fmt: skip
CONVERSATIONS = Metric(
    "genapp_conversations_total", "counter", ("platform",), "Conversations ended.", "{conversation}"
)
CONVERSATION_OUTCOMES = Metric(
    "genapp_conversation_outcomes_total", "counter", ("platform", "outcome"),
    "Outcomes of conversations; several may hold for one.", "{outcome}",
)  # fmt: skip
CONVERSATION_RESOLUTION = Metric(
    "genapp_conversation_resolution_sec", "histogram", ("platform",),
    "Time from the first message of a conversation to its resolution.", buckets=RESOLUTION_BUCKETS,
)  # fmt: skip
FEEDBACK_SCORE = Metric(
    "genapp_feedback_score", "histogram", ("kind",),
    "Scores of users: csat 1 to 5, nps 0 to 10, quality 0 to 1.", buckets=SCORE_BUCKETS,
)  # fmt: skip
CRITICAL_REVIEWS = Metric(
    "genapp_critical_reviews_total", "counter", ("platform",),
    "Feedback of the lowest scores or with a word of the list of critical words.", "{review}",
)  # fmt: skip
REPEAT_CONTACTS = Metric(
    "genapp_repeat_contacts_total", "counter", ("platform",),
    "Conversations begun by somebody whose last one had ended a short while before.", "{conversation}",
)  # fmt: skip
INTENT_RECOGNITIONS = Metric(
    "genapp_intent_recognitions_total", "counter", ("intent", "correct"),
    "Recognised intents that were confirmed (true) or corrected (false).", "{intent}",
)  # fmt: skip
HEALTH_UP = Metric(
    "genapp_health_up", "gauge", ("check",), "1 where the last run of a health check passed, else 0.", "1",
    merge="min",
)  # fmt: skip
HEALTH_LATENCY = Metric(
    "genapp_health_latency_sec", "gauge", ("check",), "How long the last run of a health check took.",
    merge="max",
)  # fmt: skip
DISK_USED = Metric(
    "genapp_disk_used_ratio", "gauge", ("path",), "Used part of the file system at a path.", "1", merge="host"
)
MEMORY_USED = Metric(
    "genapp_memory_used_ratio", "gauge", (), "Used part of the host's memory.", "1", merge="host"
)
BOT_UPDATE_LAG = Metric(
    "genapp_bot_update_lag_sec", "histogram", ("bot",),
    "Time from the sending of a message to the handling of its update, in whole seconds of the platform.",
    buckets=LLM_DURATION_BUCKETS,
)  # fmt: skip
BOT_THROTTLED = Metric(
    "genapp_bot_api_throttled_total", "counter", ("bot",), "Bot API calls refused with 429.", "{request}"
)
TELEMETRY_ERRORS = Metric(
    "genapp_telemetry_errors_total", "counter", ("where",), "Own errors, swallowed and counted.",
    "{error}", known=tuple((site,) for site in SITES),
)  # fmt: skip
TELEMETRY_RECORDS = Metric(
    "genapp_telemetry_records_total", "counter", ("kind", "state"),
    "What telemetry made and where it went: created = stored + queued + spooled + dropped.", "{record}",
    known=(
        ("llm_call", "created"), ("llm_call", "stored"),
        ("span", "created"), ("span", "exported"), ("span", "spooled"), ("span", "unspooled"),
        ("conversation", "created"), ("conversation", "stored"),
        ("event", "created"), ("event", "delivered"),
        ("trace_span", "created"), ("trace_span", "stored"),
    ),
)  # fmt: skip
TELEMETRY_DROPPED = Metric(
    "genapp_telemetry_dropped_total", "counter", ("what", "reason"), "Telemetry lost, by reason.",
    "{record}",
    known=(
        ("span", "encoding_failed"), ("span", "queue_full"), ("span", "redaction_failed"), ("span", "rejected"),
        ("span", "shutdown"), ("span", "spool_damaged"), ("span", "spool_full"), ("span", "too_large"),
        ("spool_record", "damaged"), ("snapshot", "damaged"),
        ("journal", "disk_full"), ("journal", "io_error"), ("journal", "no_directory"), ("journal", "torn"),
        ("trace_span", "queue_full"), ("trace_span", "redaction_failed"), ("trace_span", "shutdown"),
        ("trace_span", "store_unavailable"), ("trace_span", "trace_full"),
        ("event", "queue_full"), ("event", "shutdown"), ("event", "subscriber_error"),
        ("llm_call", "never_ended"),
        ("measurement", "invalid_value"), ("session", "memory_limit"), ("usage", "invalid_value"),
    ),
)  # fmt: skip
TELEMETRY_FOLDED = Metric(
    "genapp_telemetry_labels_folded_total", "counter", ("metric", "label"),
    "Measurements whose label value was past its budget and counted under __other__.", "{measurement}",
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    HTTP_REQUESTS, HTTP_DURATION, HTTP_SIZE,
    ACTION_COUNT, ACTION_DURATION, ACTION_SIZE,
    LLM_REQUESTS, LLM_DURATION, LLM_FIRST_TOKEN, LLM_TOKENS, LLM_COST, LLM_UNPRICED,
    LLM_UNKNOWN_USAGE, LLM_TOOL_CALLS, LLM_ATTEMPTS, LLM_IN_FLIGHT, ACTIVE_SESSIONS,
    RATE_LIMIT_REMAINING,
    MESSAGES, ERRORS,
    CONVERSATIONS, CONVERSATION_OUTCOMES, CONVERSATION_RESOLUTION,
    FEEDBACK_SCORE, CRITICAL_REVIEWS, REPEAT_CONTACTS, INTENT_RECOGNITIONS,
    HEALTH_UP, HEALTH_LATENCY, DISK_USED, MEMORY_USED,
    BOT_UPDATE_LAG, BOT_THROTTLED,
    TELEMETRY_ERRORS, TELEMETRY_RECORDS, TELEMETRY_DROPPED, TELEMETRY_FOLDED,
)  # fmt: skip

LABEL_BUDGETS: dict[str, int] = {
    "resource": 200, "name": 200, "model": 100, "provider": 50, "operation": 30,
    "error_type": 100, "service": 50, "status": 80, "method": 12, "app_type": 8, "direction": 2,
    "type": 8, "where": 20, "kind": 10, "state": 10, "what": 15, "reason": 30, "metric": 60, "label": 40,
    "platform": 30, "intent": 200, "outcome": 8, "correct": 2, "check": 50, "path": 20, "bot": 20,
}  # fmt: skip
"""Distinct values a label may take before further ones count under `__other__`."""

OPEN_LABELS = (
    "resource",
    "model",
    "name",
    "error_type",
    "provider",
    "service",
    "intent",
    "platform",
    "check",
    "bot",
)
"""Labels whose values come from outside; folded, in this order, when a family is full."""

SERIES_LIMIT = 2000
"""Label sets one family keeps before the open labels of further ones are folded."""

LABEL_VALUE_MAX_CHARS = 128

# Attributes of spans.
CORRELATION_ID = "correlation.id"
SESSION_ID = "session.id"
USER_ID = "user.id"
CONVERSATION_ID = "gen_ai.conversation.id"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_SEED = "gen_ai.request.seed"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_STATUS_CODE = "http.response.status_code"
RESPONSE_HEADER_PREFIX = "http.response.header."
LLM_STATUS = "genapp.llm.status"
TOOL_NAMES = "genapp.llm.tool_names"
TOOL_CALL_COUNT = "genapp.llm.tool_calls"
COST_USD = "genapp.llm.cost_usd"
ATTEMPTS = "genapp.llm.attempts"
SERVICE_TIER = "genapp.llm.service_tier"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
CACHE_WRITE_1H_TOKENS = "genapp.llm.cache_write_1h_tokens"

USER_ID_ALIASES = (
    "langfuse.user.id", "enduser.id", "gen_ai.user", "gen_ai.request.user", "llm.user",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId", "ai.settings.context.userId",
    "gen_ai.user.id", "litellm.end_user.id",
)  # fmt: skip
"""What other instrumentations call the id of the user, in the order in which they are to be believed."""

# The conventional metrics that leave over OTLP.
CLIENT_OPERATION_DURATION = "gen_ai.client.operation.duration"
CLIENT_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 - a name
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - as above

OWN_ID_KEYS = frozenset({
    CORRELATION_ID, SESSION_ID, USER_ID, CONVERSATION_ID, RESPONSE_ID,
    "gen_ai.agent.id", "gen_ai.tool.call.id", "service.instance.id",
})  # fmt: skip
"""Attributes that carry ids of ours: random strings there are no secrets."""

URL_FULL_KEYS = ("url.full", "http.url")
URL_QUERY_KEYS = ("url.query", "url.fragment")
URL_TARGET_KEYS = ("url.path", "http.target")

# Resource attributes.
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
ENVIRONMENT_NAME = "deployment.environment.name"

# Headers.
HEADER_CORRELATION = "x-correlation-id"
HEADER_REQUEST = "x-request-id"
HEADER_SESSION = "x-session-id"
HEADER_AUTH = "x-internal-auth"
TRACE_HEADERS = frozenset({
    "traceparent", "tracestate", "baggage",
    "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
})  # fmt: skip
"""Headers that can carry a caller's trace context (W3C, B3)."""

# Action names end in what they are; `action_suffix_problem` checks a name.
ACTION_SUFFIXES = ("_handler", "_task", "_llm_call", "_agent")
