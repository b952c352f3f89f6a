"""The settings: read from `footfall.toml` and the environment, checked once, every problem reported together.

Settings are a value. A reload calls `load_settings` again and keeps the old value when that raises.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from footfall.errors import SettingsError
from footfall.log_lines import LogFormat, LogLevel
from footfall.model.site_id import SiteId
from footfall.settings import authorities, validators
from footfall.settings.messages import did_you_mean, explain, full_stop
from footfall.settings.sources import OPTIONS, PREFIX, read_environment, read_sites, read_toml, settings_file
from footfall.settings.validators import Listen, Network, parse_listen

__all__ = ["Limits", "Listen", "Settings", "Site", "load_settings", "parse_listen", "settings_file"]

DEMO_SITE = "portal"
DEMO_NAME = "Cổng thông tin điện tử xã Sông Mây"
MIB = 1024 * 1024
SITES_WITH_METRICS_MAX = 1000
"""With more sites, `auto` leaves their own series out of the metrics: a thousand are about 1 MB at every scrape."""

NumberName = Literal[
    "online", "today", "week", "total", "views_today", "yesterday", "last_week", "month", "last_month", "year",
    "views_month", "views_total", "peak_online",
]  # fmt: skip
"""The names of `footfall.model.counts.NUMBERS`."""
LabelName = Literal["heading", NumberName]
LANGUAGES = ("vi", "en", "zh", "fr", "lo", "km")
"""The languages of `footfall.display.labels.LABELS`."""
Label = Annotated[str, Field(min_length=1, max_length=80)]
LanguageField = Annotated[str, AfterValidator(validators.language)]
NetworkField = Annotated[Network, PlainValidator(validators.network)]
ProxyField = Annotated[Network | Literal["unix"], PlainValidator(validators.proxy)]
ListenField = Annotated[str, AfterValidator(validators.listener)]
Nat64Field = Annotated[IPv6Network, PlainValidator(validators.nat64)]
CaFileField = Annotated[Path, AfterValidator(validators.authorities_file)]
WorkersField = Annotated[int, BeforeValidator(validators.worker_count)]
OpsHostField = Annotated[str, AfterValidator(validators.host_name)]
RedisUrl = Annotated[SecretStr, AfterValidator(validators.redis_url)]
PostgresUrl = Annotated[SecretStr, AfterValidator(validators.postgres_url)]


CONFIG = ConfigDict(
    extra="forbid",
    hide_input_in_errors=True,
    allow_inf_nan=False,
    str_strip_whitespace=True,
    use_attribute_docstrings=True,
)
"""Of all settings: an unknown key is a problem. Values never change.

Tables are dataclasses, of which each beacon reads some fields: to read one of a model takes twenty times as long.
"""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Site:
    """One counted portal: the table `[sites.<id>]`."""

    id: Annotated[SiteId, AfterValidator(validators.site_id)]
    """The name of the table. Never rename it: the stores keep the numbers under this id."""
    name: Label
    """What the portal is called, for people."""
    hosts: Annotated[tuple[Annotated[str, AfterValidator(validators.host)], ...], AfterValidator(validators.some)]
    """Hosts whose pages may count: portal.example.vn, *.example.vn, localhost:8000."""
    time_zone: Annotated[str, AfterValidator(validators.time_zone)] = "Asia/Ho_Chi_Minh"
    """IANA name of the zone in which its days and weeks begin."""
    language: LanguageField = "vi"
    """Language of the block: vi, en, zh, fr, lo or km; any other one with words in labels."""
    measure: Literal["visitors", "views"] = "visitors"
    """What today, week, total and the other periods show: visitors or views; both are always recorded."""
    visitor_id: Literal["network", "browser"] = "network"
    """Visitors are told apart by network and user agent; "browser" adds a random id kept in the browser."""
    online_window_s: Annotated[int, Field(ge=60, le=3600)] = 300
    """Seconds for which a visitor stays online after the last beacon; 60 to 3600."""
    exact_up_to: Annotated[int, Field(ge=0, le=16_384)] = 4096
    """How many ids a day keeps at most, and half of those of a week; numbers up to there are exact; 0 keeps none."""
    labels: dict[LabelName, Label] = Field(default_factory=dict)
    """Own words for heading and for the numbers, by their names; at most 80 characters each."""
    labels_in: dict[Annotated[str, AfterValidator(validators.language)], dict[LabelName, Label]] = Field(
        default_factory=dict
    )
    """Own words for pages in other languages, by language: [sites.portal.labels_in.de]."""
    show: Annotated[tuple[NumberName, ...], AfterValidator(validators.some)] = ("online", "today", "week", "total")
    """Numbers of the block, in their order; also views_today, yesterday, last_week, month, last_month, year, ..."""
    excluded_networks: tuple[NetworkField, ...] = ()
    """Networks that are never counted: staff, monitors."""
    public_url: Annotated[str, AfterValidator(validators.web_address_or_none)] = ""
    """URL at which the browsers of this portal reach Footfall, where it is another one than public_url of all."""
    pixel_without_origin: bool = False
    """Also count /seen.gif without Origin and Referer from the counter's own domain; all its hosts can then count."""
    page_query: tuple[Annotated[str, AfterValidator(validators.query_key)], ...] = ()
    """Keys of the query that tell pages apart, such as id or ItemID, in any case; other keys name no page."""
    pages_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Pages that are counted by themselves in a day; further pages count together, as (other); 1 to 1000000."""
    reports: Literal["off", "token", "public"] = "off"
    """Who reads the report of the site on the public listener: off, token (footfall report-token) or public."""
    group: Annotated[str, AfterValidator(validators.group_name)] = ""
    """Sites of one group have a sum of their own in the report of all sites: so-y-te; if empty, none."""
    pages_kept_days: Annotated[int, Field(ge=31, le=3660)] = 400
    """Days for which the views of a page are kept day by day, and after that by month; 31 to 3660."""

    @cached_property
    def zone(self) -> ZoneInfo:
        """Return the zone in which this site's days and weeks begin."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Limits:
    """What one network (an IPv4 address, an IPv6 /64) may do on one site, per worker: the table `[limits]`."""

    enabled: bool = True
    """false switches every limit off: for a log replay or a bench."""
    beacons_per_s: Annotated[float, Field(gt=0)] = 50.0
    """Beacons a second from one network: 5,000 people behind one address send up to 43."""
    beacons_burst: Annotated[int, Field(ge=1)] = 6000
    """Beacons at once from one network: those 5,000 open an announcement in the same minute."""
    reads_per_s: Annotated[float, Field(gt=0)] = 400.0
    """Reads of the numbers a second from one network: 6,000 visible footers, each every 15 seconds."""
    reads_burst: Annotated[int, Field(ge=1)] = 12_000
    """Reads of the numbers at once from one network: two for each of those 6,000."""
    new_visitors_per_10_min: Annotated[int, Field(ge=1)] = 1000
    """New visitors from one network, at once and in every ten minutes; beyond it only views count."""
    new_pages_per_10_min: Annotated[int, Field(ge=1)] = 200
    """Pages new to a worker from one network, at once and in every ten minutes; beyond it views count as (other)."""
    wide_factor: Annotated[int, Field(ge=1)] = 4
    """An IPv6 /48 as a whole may do this many times what one of its /64 may."""
    networks_max: Annotated[int, Field(ge=1000)] = 100_000
    """Networks remembered for each limit, about 200 bytes each; the least recently used is forgotten; 1000 or more."""
    known_visitors_max: Annotated[int, Field(ge=1024)] = 1_048_576
    """Visitors remembered as no longer new, 8 bytes each; 1024 or more."""


class Settings(BaseModel):
    """Everything that a worker reads before it starts."""

    model_config = {**CONFIG, "frozen": True}

    public_url: Annotated[str, AfterValidator(validators.web_address)] = "http://127.0.0.1:8080"
    """URL at which browsers reach Footfall; footfall snippet prints it."""
    sites: Annotated[dict[str, Site], Field(min_length=1)]
    """The portals, by id."""
    redis_url: RedisUrl = SecretStr("")
    """Redis or Valkey: redis://, rediss:// (TLS), unix://, redis+cluster:// or redis+sentinel://; not embedded."""
    postgres_url: PostgresUrl = SecretStr("")
    """PostgreSQL, as the role of the service; hosts in a list are tried in turn; required unless embedded."""
    migrate_url: PostgresUrl | None = None
    """PostgreSQL, as the owner of the schema, for footfall migrate; if empty, FOOTFALL_POSTGRES_URL."""
    ca_file: Annotated[CaFileField | None, BeforeValidator(validators.none_if_empty)] = None
    """PEM file of the authorities that sign the certificates of Redis and PostgreSQL; if empty, the system's."""
    listen: ListenField = "127.0.0.1:8080"
    """Where browsers or a proxy connect: host:port, [IPv6]:port or unix:/path."""
    ops_listen: ListenField = "127.0.0.1:8081"
    """Where /metrics, /healthz, /readyz and /version are served; keep it private."""
    ops_hosts: Annotated[tuple[OpsHostField, ...], BeforeValidator(validators.split_commas)] = ()
    """Names by which clients call the ops routes, besides localhost, addresses and this machine's name."""
    workers: WorkersField = 1
    """Worker processes: 1 to 64, or auto for one per usable core."""
    data_dir: Path = Path(".footfall")
    """Folder of the spool and of the embedded servers."""
    trusted_proxies: Annotated[tuple[ProxyField, ...], BeforeValidator(validators.split_commas)] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
        "unix",
    )
    """Networks, or the word unix, whose forwarding header is believed; separated by commas."""
    forwarded_header: Annotated[str, AfterValidator(validators.header_name)] = "X-Forwarded-For"
    """The one header that carries the client's address: X-Forwarded-For, X-Real-IP, Forwarded."""
    translation_prefixes: Annotated[tuple[Nat64Field, ...], BeforeValidator(validators.split_commas)] = ()
    """NAT64 or SIIT prefixes (RFC 6052): the client is the IPv4 address inside; 64:ff9b::/96 always is one."""
    rollup_every_s: Annotated[float, Field(ge=5, le=300)] = 10.0
    """Seconds between two copies from Redis to PostgreSQL; 5 to 300."""
    redis_timeout_s: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Seconds that Redis has to answer before beacons go to the spool; 0.1 to 10."""
    queue_max_beacons: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Beacons that may wait in a worker; beyond it the answer is 503; 100 to 1000000."""
    keep_max_bytes: Annotated[int, Field(ge=MIB, le=4096 * MIB)] = 64 * MIB
    """Bytes of unconfirmed batches that a worker keeps in memory; 1048576 to 4294967296."""
    spool_max_bytes: Annotated[int, Field(ge=MIB, le=1024 * 1024 * MIB)] = 256 * MIB
    """Bytes of unconfirmed batches that a worker keeps on disk; 1048576 to 1099511627776."""
    poll_after_s: Annotated[int, Field(ge=5, le=3600)] = 15
    """Seconds after which a visible page that does not count reads the numbers again; 5 to 3600."""
    ping_after_s: Annotated[int, Field(ge=10, le=1800)] = 60
    """Seconds after which a visible page says that it is still there, and gets the numbers; 10 to 1800."""
    ops_token: Annotated[SecretStr, AfterValidator(validators.not_blank)] | None = None
    """Bearer token that the ops routes ask for; if empty, none."""
    metrics_per_site: Literal["auto", "on", "off"] = "auto"
    """Whether /metrics has series of each site: on, off, or auto, which is on for up to 1000 sites; needs a restart."""
    log_format: LogFormat = "text"
    """How the log is written: text for people, json for programs."""
    log_level: LogLevel = "info"
    """What the log holds at least: debug, info, warning or error."""
    demo: bool = False
    """Serve the demo portal at /, for a site called portal."""
    limits: Limits = Limits()
    """What one network may do."""

    @cached_property
    def has_metrics_per_site(self) -> bool:
        """Return whether each site has series of its own in the metrics."""
        is_few = len(self.sites) <= SITES_WITH_METRICS_MAX
        return is_few if self.metrics_per_site == "auto" else self.metrics_per_site == "on"

    @field_validator("sites", mode="before")
    @classmethod
    def give_each_site_its_id(cls, tables: object) -> object:
        """Return the tables, each with its name as the id of its site."""
        if not isinstance(tables, Mapping):
            return tables
        return {key: {"id": key, **t} if isinstance(t, Mapping) else t for key, t in tables.items()}


TABLES: dict[str, type[Site | Limits]] = {"sites": Site, "limits": Limits}
SECRETS = ("redis_url", "postgres_url", "migrate_url", "ops_token")
STORE_URLS = {
    "redis_url": authorities.redis_url,
    "postgres_url": authorities.postgres_url,
    "migrate_url": authorities.postgres_url,
}
VARIABLES = {PREFIX + name.upper(): name for name in Settings.model_fields if name not in TABLES}
FILE_VARIABLES = {f"{PREFIX}{name.upper()}_FILE": name for name in SECRETS}


def load_settings(
    file: Path | None,
    environ: Mapping[str, str],
    *,
    embedded: bool = False,
    demo: bool = False,
    needs_stores: bool = True,
) -> Settings:
    """Return the checked settings of `file`, of `sites.d` beside it, and of `environ`, which wins over a file.

    `embedded` uses its own stores, and the demo portal where there is no file. `needs_stores` is false for a command
    that asks none. Raises SettingsError with every problem. Contradictions between settings are looked for only when
    every single value is right.
    """
    problems: list[str] = []
    tables = {} if file is None else read_toml(file, problems)
    parts = read_sites(file, tables, problems) if file and tables is not None else {}
    variables = read_environment(environ, VARIABLES, FILE_VARIABLES, problems)
    if tables is None:
        raise SettingsError(problems)
    values: dict[str, Any] = tables | variables
    if demo:
        values["demo"] = True
    if embedded:
        values = _embedded_defaults(values, has_file=file is not None) | values
    if needs_stores:
        problems += _stores_at_odds(values, environ, embedded)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as errors:
        problems += [_sentence(error, _file_of(error, parts, file), variables) for error in errors.errors()]
        raise SettingsError(problems) from None
    problems += _contradictions(settings)
    urls = _urls_with_authorities(settings, problems)
    if problems:
        raise SettingsError(problems)
    return settings.model_copy(update=urls)


def _urls_with_authorities(settings: Settings, problems: list[str]) -> dict[str, SecretStr]:
    """Return the stores' URLs, each with the authorities to which its driver holds the certificate."""
    urls: dict[str, SecretStr] = {}
    for name, complete in STORE_URLS.items():
        secret: SecretStr | None = getattr(settings, name)
        try:
            if secret:
                urls[name] = SecretStr(complete(secret.get_secret_value(), settings.ca_file))
        except ValueError as error:
            problems.append(full_stop(f"{PREFIX}{name.upper()}: {error}"))
    return urls


def _embedded_defaults(values: Mapping[str, Any], *, has_file: bool) -> dict[str, Any]:
    """Return the URL of an embedded Footfall and, without a file, the demo portal as its site."""
    try:
        listen = parse_listen(str(values.get("listen", Settings.model_fields["listen"].default)))
    except ValueError:
        return {}  # validation reports the mistake in `listen`
    is_one_address = isinstance(listen, Listen) and listen.host not in ("0.0.0.0", "::")  # noqa: S104
    host = listen.host if isinstance(listen, Listen) and is_one_address else "127.0.0.1"
    defaults: dict[str, Any] = {}
    if isinstance(listen, Listen) and listen.port:
        defaults["public_url"] = f"http://{Listen(host, listen.port)}"
    if not has_file:
        hosts = dict.fromkeys([f"[{host}]" if ":" in host else host, "127.0.0.1", "localhost"])
        defaults["sites"] = {DEMO_SITE: {"name": DEMO_NAME, "hosts": list(hosts), "reports": "public"}}
    return defaults


def _stores_at_odds(values: Mapping[str, Any], environ: Mapping[str, str], embedded: bool) -> Iterator[str]:
    """Yield a sentence for each missing store, and for each store that `embedded` does not use."""
    for name, example in (
        ("redis_url", "redis://host:6379/0"),
        ("postgres_url", "postgresql://user@host/db"),
    ):
        variable = PREFIX + name.upper()
        if embedded and values.get(name):
            yield f"{variable}: is set, but --embedded counts in its own servers; leave out one of the two."
        elif not embedded and name not in values and not environ.get(f"{variable}_FILE"):
            yield f"{variable}: is required, such as {example}; --embedded needs none."


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each value that is right alone and wrong beside another one."""
    here = parse_listen(settings.listen)
    if here == parse_listen(settings.ops_listen) and not (isinstance(here, Listen) and here.port == 0):
        yield f"ops_listen: is {here}, as is listen; give the ops routes an address of their own."
    if settings.demo and DEMO_SITE not in settings.sites:
        yield f"demo: needs a site called {DEMO_SITE}; add [sites.{DEMO_SITE}] or leave out --demo."
    for key, site in settings.sites.items():
        if site.id != key:
            yield f"sites.{key}.id: leave it out; a site is called what its table is called."
        wordless = {"heading", *site.show} - {*site.labels, *site.labels_in.get(site.language, {})}
        if site.language not in LANGUAGES and wordless:
            yield (
                f"sites.{key}.language: {site.language} has no built-in words ({', '.join(LANGUAGES)} have); "
                f"write in labels what these are called: {', '.join(sorted(wordless))}."
            )
        if site.online_window_s <= settings.ping_after_s:
            yield (
                f"sites.{key}.online_window_s: {site.online_window_s} must be longer than ping_after_s "
                f"({settings.ping_after_s}), or visitors who stay would come and go."
            )


def _file_of(error: ErrorDetails, parts: Mapping[str, Path], file: Path | None) -> Path | None:
    """Return the file in which a setting stands."""
    loc = error["loc"]
    return parts.get(str(loc[1]), file) if loc[0] == "sites" and len(loc) > 1 else file


def _sentence(error: ErrorDetails, file: Path | None, variables: Mapping[str, str]) -> str:
    """Return one problem that pydantic found, under the setting's name in the file or the environment."""
    loc = error["loc"]
    path = ".".join(str(part) for part in loc if isinstance(part, str) and part != "[key]")
    name = PREFIX + path.upper() if path in variables else f"{path} ({file})" if file else path
    if loc == ("sites",) and error["type"] in ("missing", "too_short"):
        return "sites: no portal is configured; add a table such as [sites.portal] to footfall.toml."
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        keys = Settings.model_fields if len(loc) == 1 else [key.name for key in fields(TABLES[str(loc[0])])]
        if len(loc) == 1 and (option := OPTIONS.get(str(loc[-1]))):
            return f"{name}: is not a setting of Footfall; give footfall serve the option {option}."
        hint = did_you_mean(str(loc[-1]), keys) or "; remove or correct it"
        return full_stop(f"{name}: is not a setting of Footfall{hint}")
    return full_stop(f"{name}: {explain(error, is_secret=loc[0] in SECRETS)}")
