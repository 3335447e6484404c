"""What must reach no sink, and what must reach all of them.

The secrets are generated, so that no string that a scanner would stop at is ever committed.
"""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SEED = 20_261
WORD = string.ascii_letters + string.digits
DASHED = WORD + "-_"
HEX = string.digits + "abcdef"
UPPER = string.ascii_uppercase + string.digits
BASE64 = WORD + "+/"


@dataclass(frozen=True)
class Canary:
    """A secret as it is planted: one line of printable ASCII; `core` is what must not be found."""

    form: str
    text: str
    core: str


class Generator:
    """Random text from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def of(self, alphabet: str, length: int) -> str:
        """`length` characters, with one of each kind the alphabet has and letters at both ends."""
        kinds = [
            kind
            for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits)
            if set(kind) <= set(alphabet)
        ]
        inner = [self.random.choice(alphabet) for _ in range(length - len(kinds) - 2)]
        inner += [self.random.choice(kind) for kind in kinds]
        self.random.shuffle(inner)
        ends = [character for character in alphabet if character.isalnum()]
        return "".join([self.random.choice(ends), *inner, self.random.choice(ends)])


Make = Callable[[Generator], tuple[str, str]]


def key(beginning: str, alphabet: str, length: int) -> Make:
    """A key that is told by how it begins."""

    def make(generator: Generator) -> tuple[str, str]:
        tail = generator.of(alphabet, length)
        return beginning + tail, tail

    return make


def beside(template: str, alphabet: str, length: int) -> Make:
    """A secret that is told by what stands beside it: `template` has one `%s`."""

    def make(generator: Generator) -> tuple[str, str]:
        value = generator.of(alphabet, length)
        return template % value, value

    return make


def json_web_token(generator: Generator) -> tuple[str, str]:
    """Header, claims and signature."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": generator.of(WORD, 12), "admin": True})
    ]
    signature = generator.of(DASHED, 43)
    return ".".join([*parts, signature]), signature


def basic(generator: Generator) -> tuple[str, str]:
    """User and password in Base64."""
    encoded = base64.b64encode(f"{generator.of(WORD, 8)}:{generator.of(WORD, 12)}".encode()).decode()
    return f"Basic {encoded}", encoded.rstrip("=")


def private_key(generator: Generator) -> tuple[str, str]:
    """As it stands in an environment variable: one line with escaped line ends."""
    kind = generator.random.choice(["", "RSA ", "EC ", "OPENSSH "])
    body = generator.of(BASE64, 64)
    head, foot = (f"-----{word} {kind}PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"{head}\\n{body}\\n{foot}", body


def telegram(generator: Generator) -> tuple[str, str]:
    """The token of a bot."""
    tail = generator.of(DASHED, 33)
    return f"{generator.random.randrange(10**8, 10**10)}:AA{tail}", tail


def sendgrid(generator: Generator) -> tuple[str, str]:
    """Two parts."""
    tail = generator.of(DASHED, 43)
    return f"SG.{generator.of(DASHED, 22)}.{tail}", tail


FORMS: dict[str, Make] = {
    "openai": key("sk" + "-", WORD, 48),
    "openai project": key("sk" + "-proj-", DASHED, 74),
    "openai service": key("sk" + "-svcacct-", DASHED, 74),
    "anthropic": key("sk" + "-ant-api03-", DASHED, 95),
    "openrouter": key("sk" + "-or-v1-", HEX, 64),
    "deepseek": key("sk" + "-", HEX, 32),
    "google": key("AI" + "za", DASHED, 35),
    "google access": key("ya" + "29.", DASHED, 120),
    "google client": key("GOC" + "SPX-", DASHED, 28),
    "aws id": key("AK" + "IA", UPPER, 16),
    "aws session id": key("AS" + "IA", UPPER, 16),
    "aws secret": beside("aws_secret_access_key=%s", BASE64, 40),
    "azure signature": beside("?sv=2024-11-04&sp=r&sig=%s", WORD, 43),
    "azure account": beside("DefaultEndpointsProtocol=https;AccountKey=%s;", BASE64, 86),
    "github": key("gh" + "p_", WORD, 36),
    "github oauth": key("gh" + "o_", WORD, 36),
    "github fine": key("github" + "_pat_", WORD, 82),
    "gitlab": key("gl" + "pat-", DASHED, 20),
    "slack bot": key("xo" + "xb-", string.digits + "-" + WORD, 48),
    "slack user": key("xo" + "xp-", string.digits + "-" + WORD, 60),
    "stripe": key("sk" + "_live_", WORD, 24),
    "stripe restricted": key("rk" + "_live_", WORD, 24),
    "hugging face": key("h" + "f_", WORD, 34),
    "groq": key("gs" + "k_", WORD, 52),
    "xai": key("xa" + "i-", WORD, 80),
    "perplexity": key("ppl" + "x-", WORD, 48),
    "nvidia": key("nv" + "api-", DASHED, 64),
    "replicate": key("r" + "8_", WORD, 37),
    "telegram": telegram,
    "telegram path": beside("/bot7712345678:%s/getMe", DASHED, 35),
    "json web token": json_web_token,
    "private key": private_key,
    "bearer": beside("Bearer %s", WORD, 32),
    "basic": basic,
    "authorization": beside("Authorization: Token %s", WORD, 20),
    "api key header": beside("x-api-key: %s", HEX, 32),
    "own auth header": beside("x-internal-auth: %s", WORD, 24),
    "password": beside("password=%s", WORD, 12),
    "password json": beside('{"user": "ann", "password": "%s"}', WORD, 12),
    "api key json": beside("{'api_key': '%s'}", WORD, 24),
    "secret": beside("client_secret: %s", WORD, 24),
    "token": beside("access_token=%s", WORD, 24),
    "userinfo": beside("postgresql://app:%s@db.internal:5432/shop", WORD, 16),
    "query": beside("https://api.example.com/v1/items?key=%s", WORD, 24),
    "npm": key("np" + "m_", WORD, 36),
    "pypi": key("py" + "pi-AgEIcHlwaS5vcmc", DASHED, 120),
    "sendgrid": sendgrid,
    "twilio": key("S" + "K", HEX, 32),
    "digitalocean": key("do" + "p_v1_", HEX, 64),
    "databricks": key("da" + "pi", HEX, 32),
}


def canaries(seed: int, rounds: int) -> Iterator[Canary]:
    """`rounds` of each form."""
    generator = Generator(seed)
    for _ in range(rounds):
        for form, make in FORMS.items():
            yield Canary(form, *make(generator))


CANARIES = tuple(canaries(SEED, 4))
SECRETS = tuple(canary.text for canary in CANARIES)
"""200 secrets of 50 forms. None of them passes as a correlation id."""

_hex_generator = Generator(SEED)
HEX_KEYS = tuple(_hex_generator.of(HEX, length) for length in (32, 40, 48, 64) for _ in range(5))
"""Bare hexadecimal: a secret everywhere but in our own ids."""


def found_in(data: bytes | str) -> list[str]:
    """The `SECRETS` and `HEX_KEYS` whose secret part occurs in `data`, as written or URL-encoded."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.replace("%2B", "+").replace("%2F", "/").replace("\\/", "/")
    leaked = [canary.text for canary in CANARIES if canary.core in text]
    return leaked + [key for key in HEX_KEYS if key in text]


def benign(seed: int, number: int) -> Iterator[str]:
    """Values that spans and logs really carry and that must stay as they are."""
    generator = Generator(seed)
    choice, number_up_to = generator.random.choice, generator.random.randrange
    makers: tuple[Callable[[], str], ...] = (
        lambda: f"{choice(TOKEN_WORDS)}={number_up_to(200_000)}",
        lambda: f'"{choice(TOKEN_WORDS)}": {number_up_to(200_000)}',
        lambda: str(uuid.UUID(int=generator.random.getrandbits(128), version=4)),
        lambda: f"tg:{number_up_to(10**10)}:{uuid.UUID(int=generator.random.getrandbits(128), version=4)}",
        lambda: f"{choice(MODELS)}{choice(('', '-2024-08-06', '-20250929', ':free', '-latest', '-0125'))}",
        lambda: f"{choice(('chatcmpl', 'resp', 'msg', 'run'))}-{generator.of(WORD, 29)}",
        lambda: f"call_{generator.of(WORD, 24)}",
        lambda: choice(("stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", "STOP")),
        lambda: " ".join(choice(SENTENCES).format(choice(NOUNS), choice(NOUNS)) for _ in range(3)),
        lambda: f"data:image/png;base64,{generator.of(BASE64, 400)}",
        lambda: f"https://{choice(HOSTS)}:{number_up_to(65_536)}/v{number_up_to(9)}/{choice(NOUNS)}/{{id}}",
        lambda: f"{choice(('GET', 'POST'))} /api/{choice(NOUNS)}/{number_up_to(10**6)}/{choice(NOUNS)}s",
        lambda: f"task-{generator.of(HEX, 20)}",
        lambda: f"sha256:{generator.of(HEX, 64)}",
        lambda: f"00-{generator.of(HEX, 32)}-{generator.of(HEX, 16)}-01",
        lambda: (
            f"2026-{number_up_to(12) + 1:02}-{number_up_to(28) + 1:02}T10:{number_up_to(60):02}:07.{number_up_to(10**6):06}Z"
        ),
        lambda: f"{choice(NOUNS)}@{choice(HOSTS)}",
        lambda: f"EXPLAIN ANALYZE {choice(NOUNS)}_totals(token_count) WHERE key = $1 AND secret IS NULL",
        lambda: f'{{"role": "user", "content": "{choice(SENTENCES).format(choice(NOUNS), choice(NOUNS))}"}}',
        lambda: f'File "/srv/app/{choice(NOUNS)}.py", line {number_up_to(900)}, in {choice(NOUNS)}_handler',
        lambda: f"cache_key={choice(HOSTS)}:{number_up_to(10**6)}, tokens={number_up_to(999)}",
        lambda: f"01{generator.of(UPPER, 24)}",
        lambda: (
            f"Mozilla/5.0 (X11; Linux x86_64; rv:{number_up_to(140)}.0) Gecko/20100101 Firefox/{number_up_to(140)}.0"
        ),
        lambda: f"{number_up_to(256)}.{number_up_to(256)}.0.{number_up_to(256)}:{number_up_to(65_536)}",
    )
    for position in range(number):
        yield makers[position % len(makers)]()


TOKEN_WORDS = (
    "gen_ai.usage.input_tokens", "output_tokens", "max_tokens", "max_completion_tokens", "prompt_token_count",
    "total_tokens", "tokens", "token", "cached_tokens", "token_count", "max_output_tokens", "tokens_per_sec",
)  # fmt: skip
MODELS = (
    "gpt-4o", "gpt-5-mini", "claude-sonnet-4-5", "claude-opus-4-1", "gemini-2.5-flash", "text-embedding-3-large",
    "meta-llama/Llama-3.3-70B-Instruct-Turbo", "deepseek/deepseek-r1-distill-qwen-32b", "o4-mini-deep-research",
    "mistral-small-3.2-24b-instruct", "anthropic.claude-3-5-sonnet-20241022-v2:0", "whisper-large-v3-turbo",
    "ft:gpt-4o-mini-2024-07-18:acme::9AbC1xYz", "sk-learn-pipeline-classifier",
)  # fmt: skip
NOUNS = (
    "order", "invoice", "token", "password", "secret", "key", "session", "bearer", "cookie", "basket", "desk",
    "signature", "authorization", "author", "credential", "customer", "weather", "tokenizer", "passenger",
)  # fmt: skip
HOSTS = ("api.openai.com", "shop.example.com", "db-1.internal", "my-bot.eu-west-1.amazonaws.com", "localhost")
SENTENCES = (
    "I forgot my {} and cannot find the {}.",
    "The {} is not the {}: it was sent yesterday.",
    "How many tokens does a {} of this {} need?",
    "Basic {} handling is explained in chapter 3.",
    "Bearer authentication wants a {}, not a {}.",
    "Please reset the {} - the {} has expired!",
    "Is the API key of the {} valid? Ask the {} team.",
    "See https://docs.example.com/{}/guide about every {}.",
    "The cookie: a small piece of {} stored by the {}.",
    "A secret {} = an unknown {}.",
)
