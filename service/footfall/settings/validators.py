"""Validators of one setting: each returns the value of a text, or raises `ValueError`.

The message continues the setting's name ("FOOTFALL_LISTEN: must be …") and never repeats a secret.
"""

import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import SecretStr

from footfall.model.hosts import canonical_host, parse_host_rule
from footfall.model.site_id import SITE_ID, SiteId
from footfall.settings.messages import did_you_mean
from footfall.settings.processors import usable_processors
from footfall.settings.store_urls import KINDS, parse_redis_url, postgres_urls, split_url

Network = IPv4Network | IPv6Network

PORT_MAX = 65_535
WORKERS_MAX = 64
POSTGRES_SCHEMES = ("postgresql", "postgres")
NAMES_OF_VIETNAMS_ZONE = frozenset(
    {"ict", "indochinatime", "hanoi", "asiahanoi", "saigon", "hochiminh", "hochiminhcity", "asiahochiminhcity"}
    | {"vietnam", "asiavietnam", "vn", "asiadanang", "danang", "hcm", "asiahcm", "seasiastandardtime"}
)
"""Small letters of what people write who mean Asia/Ho_Chi_Minh."""
OFFSET_OF_VIETNAM = re.compile(r"(utc|gmt|etcutc|etcgmt)?\+0?7(00)?")
OFFSET = re.compile(r"(utc|gmt|etcutc|etcgmt)?[+-][0-9]{1,4}")
NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)
LANGUAGE = re.compile(r"[a-z]{2,3}")
QUERY_KEY = re.compile(r"[A-Za-z0-9_.~$:()\[\]-]{1,64}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP address to listen on; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen | Path:
    """Return the TCP address, or the path of the unix socket, that `text` names.

    >>> parse_listen("[::1]:8080"), str(parse_listen("unix:/run/footfall.sock"))
    (Listen(host='::1', port=8080), '/run/footfall.sock')
    """
    scheme, _, path = text.partition(":")
    if scheme == "unix" and "/" in path:
        return Path(path)
    host, _, port = text.rpartition(":")
    if bracketed := host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    is_host = re.fullmatch(r"[\w.:%-]+", host) and bracketed == (":" in host)
    if not is_host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > PORT_MAX:
        raise ValueError(f"must be host:port (0.0.0.0:8080), [IPv6 address]:port or unix:/path, not {text!r}")
    return Listen(host, int(port))


def listener(text: str) -> str:
    """Return the text of a listener that parses."""
    parse_listen(text)
    return text


def site_id(text: str) -> SiteId:
    """Return a site's id; keys in Redis and Postgres carry it, so it is short and plain."""
    if not SITE_ID.fullmatch(text):
        raise ValueError("an id is 1 to 32 of a-z, 0-9 and -, the first one not -")
    return SiteId(text)


def group_name(text: str) -> str:
    """Return the name of a group of sites, which stands in addresses; empty for none."""
    if text and not SITE_ID.fullmatch(text):
        raise ValueError("a group is 1 to 32 of a-z, 0-9 and -, the first one not -")
    return text


def host(text: str) -> str:
    """Return a host of a site as written; `ingest.origins` decides what it matches."""
    parse_host_rule(text)
    return text


def some(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return `items`, which must not be empty; Field(min_length=1) would also complain when every item is wrong."""
    if not items:
        raise ValueError("must not be empty")
    return items


def query_key(text: str) -> str:
    """Return the name of a key of a page's query, as the addresses of the site's pages write it."""
    if not QUERY_KEY.fullmatch(text):
        raise ValueError(f"{text!r} must be the name of one key, such as id or ItemID: no ?, no =, no value")
    return text


def time_zone(text: str) -> str:
    """Return the IANA name of a zone that the installed zone data contains."""
    try:
        ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        hint = _zone_hint(text)
        raise ValueError(f"{text!r} is not a time zone{hint}") from None
    return text


def _zone_hint(text: str) -> str:
    """Return the end of a sentence about a zone that does not exist.

    The nearest spelling of UTC+7 is UTC, and of Asia/Hanoi Asia/Yangon: both would count on the wrong days.
    """
    word = re.sub(r"[^a-z0-9+-]", "", text.lower())
    if word in NAMES_OF_VIETNAMS_ZONE or OFFSET_OF_VIETNAM.fullmatch(word):
        return "; Vietnam's is called Asia/Ho_Chi_Minh"
    if OFFSET.fullmatch(word):
        return ", but an offset; give the IANA name of a place, such as Asia/Ho_Chi_Minh for UTC+7"
    return did_you_mean(text, available_timezones()) or "; give an IANA name such as Asia/Ho_Chi_Minh"


def network(value: object) -> Network:
    """Return the network of a text in CIDR form, or of one address; an IPv4 network written as IPv6 becomes IPv4."""
    text = str(value)
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network, such as 10.0.0.0/8 or 2001:db8::/32") from None
    if (address := ip_address(text.partition("/")[0])) != found[0]:
        raise ValueError(f"{text!r} is ambiguous: write {found} (a network) or {address} (one address)")
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    return IPv4Network((mapped, found.prefixlen - 96)) if mapped and found.prefixlen >= 96 else found


def nat64(value: object) -> IPv6Network:
    """Return a prefix behind which IPv6 addresses carry an IPv4 address (RFC 6052)."""
    found = network(value)
    if not isinstance(found, IPv6Network) or found.prefixlen not in NAT64_LENGTHS:
        lengths = ", ".join(f"/{length}" for length in NAT64_LENGTHS[:-1])
        raise ValueError(f"{value!s} must be an IPv6 prefix of {lengths} or /{NAT64_LENGTHS[-1]}, as in RFC 6052")
    return found


def proxy(value: object) -> Network | Literal["unix"]:
    """Return a trusted proxy: a network, or the word `unix` for every peer on a unix socket."""
    return "unix" if value == "unix" else network(value)


def split_commas(value: object) -> object:
    """Return the items of a comma-separated text, the environment's form of a list; return another value as it is."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def header_name(text: str) -> str:
    """Return the name of one HTTP header."""
    if not HEADER_NAME.fullmatch(text):
        raise ValueError("must be the name of one header, such as X-Forwarded-For")
    return text


def language(text: str) -> str:
    """Return the code of a language in small letters, without a region: BCP 47, such as zh or fr."""
    if not LANGUAGE.fullmatch(text.lower()):
        raise ValueError(f"{text!r} must be the code of a language, two or three letters such as zh")
    return text.lower()


def host_name(text: str) -> str:
    """Return the name of one host, without a port, in its compared form."""
    found = canonical_host(text)
    if found is None:
        raise ValueError(f"{text!r} must be the name of a host alone, such as metrics.example.vn")
    return found


def web_address(text: str) -> str:
    """Return an http or https URL of this service, as browsers see it, without its last slash."""
    try:
        url = urlsplit(text)
        has_host = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        has_host = False
    if not has_host or re.search(r"[\s?#@]", text):
        raise ValueError("must be an http:// or https:// URL without query or password: https://count.example.vn")
    return text.rstrip("/")


def web_address_or_none(text: str) -> str:
    """Return such a URL, or an empty text."""
    return text and web_address(text)


def redis_url(secret: SecretStr) -> SecretStr:
    """Return the secret URL of a Redis, a cluster or the sentinels of a service."""
    _check_store_url(secret, KINDS, parse_redis_url)
    return secret


def postgres_url(secret: SecretStr) -> SecretStr:
    """Return the secret URL of a PostgreSQL, on one host or several."""
    _check_store_url(secret, POSTGRES_SCHEMES, postgres_urls)
    return secret


def _check_store_url(secret: SecretStr, schemes: Iterable[str], parse: Callable[[str], object]) -> None:
    """Raise ValueError for what is no URL with one of `schemes`; the message holds no part of the URL."""
    text = secret.get_secret_value()
    if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    try:
        split_url(text)
    except ValueError:
        raise ValueError("is not a readable URL: in its password write %2F for /, %40 for @, %23 for #") from None
    parse(text)


def none_if_empty(value: object) -> object:
    """Return None for an empty text, the form in which a file shows that there is no value."""
    return None if value == "" else value


def authorities_file(file: Path) -> Path:
    """Return the path of a file that holds certificates of authorities."""
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ValueError(f"{file} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from None
    return file


def worker_count(value: object) -> int:
    """Return the number of worker processes that a text means: a number, or `auto` for one per usable core."""
    if value == "auto":
        return min(WORKERS_MAX, usable_processors())
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise ValueError(f"must be a number from 1 to {WORKERS_MAX}, or the word auto")
    return int(text)


def not_blank(secret: SecretStr) -> SecretStr:
    """Return a secret that has a content: an empty token would admit every client."""
    if not secret.get_secret_value():
        raise ValueError("must not be empty: leave it out to have none")
    return secret
