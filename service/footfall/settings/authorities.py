"""Which authorities sign the certificates of the stores, written into the stores' URLs for their drivers.

asyncpg looks for `~/.postgresql/root.crt`, which an account without a home does not have, and takes a file only;
redis-py trusts the authorities of the system, and those of a file besides.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from footfall.settings.store_urls import split_url

SYSTEM = "system"
"""libpq's word for the authorities of the system."""
SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
VERIFYING = ("verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Tls:
    """How one store is reached: whether its certificate is checked or need not be, and that in words."""

    is_safe: bool
    words: str


def system_authorities() -> Path | None:
    """Return the system's file of authorities; None where it has none. SSL_CERT_FILE names another."""
    named = ssl.get_default_verify_paths().cafile
    return next((Path(file) for file in (named, *SYSTEM_FILES) if file and Path(file).is_file()), None)


def redis_url(url: str, own: Path | None) -> str:
    """Return the URL of Redis with the file of one's own authorities; a file that the URL names stays.

    >>> redis_url("rediss://redis.example.vn:6379/0", Path("/etc/footfall/ca.pem"))
    'rediss://redis.example.vn:6379/0?ssl_ca_certs=/etc/footfall/ca.pem'
    """
    if own is None or not url.startswith("rediss") or "ssl_ca_certs" in _options(url):
        return url
    return _with_option(url, "ssl_ca_certs", own)


def postgres_url(url: str, own: Path | None) -> str:
    """Return the URL of PostgreSQL with the file of authorities that verify-ca and verify-full need.

    A file that the URL names stays; `system` becomes the system's file. Raises ValueError where there is none.
    """
    options = _options(url)
    named = options.get("sslrootcert", "")
    if named not in ("", SYSTEM) or (options.get("sslmode") not in VERIFYING and not named):
        return url
    file = own if own and not named else system_authorities()
    if file is None:
        raise ValueError(
            "asks for a verified certificate, but this system has no file of authorities: "
            "install ca-certificates, or name a file in FOOTFALL_CA_FILE"
        )
    return _with_option(url, "sslrootcert", file)


def redis_tls(url: str) -> Tls:
    """Say how Redis is reached."""
    parts = split_url(url)
    options = parts.options
    if not parts.scheme.startswith("rediss"):
        hosts = [server.host for server in parts.servers] if parts.scheme != "unix" else []
        return _without_tls(hosts, f"begin its URL with {parts.scheme.replace('redis', 'rediss')}://")
    if options.get("ssl_cert_reqs", "required") != "required":
        return Tls(False, "TLS, but its certificate is not checked; leave ssl_cert_reqs out of its URL")
    has_name = options.get("ssl_check_hostname", "true").lower() not in ("0", "f", "false", "n", "no")
    return _checked(has_name, options.get("ssl_ca_certs"))


def postgres_tls(url: str) -> Tls:
    """Say how PostgreSQL is reached."""
    parts = split_url(url)
    options = parts.options
    mode = options.get("sslmode", "prefer")
    if mode not in VERIFYING:
        hosts = [server.host for server in parts.servers] or options.get("host", "").split(",")
        return _without_tls(hosts, f"write sslmode=verify-full instead of {mode}")
    return _checked(mode == "verify-full", options.get("sslrootcert"))


def _checked(has_name: bool, file: str | None) -> Tls:
    known = system_authorities()
    is_system = file is None or (known and Path(file) == known)
    whose = f"the system's authorities ({known})" if is_system else f"the authorities in {file}"
    name = "certificate and name are" if has_name else "the certificate, but not its name, is"
    return Tls(True, f"TLS; {name} checked against {whose}")


def _without_tls(hosts: list[str], remedy: str) -> Tls:
    if all(_is_here(host) for host in hosts):
        return Tls(True, "no TLS, on this host")
    return Tls(False, f"on another host, where its certificate is not checked; {remedy}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.startswith("/")


def _options(url: str) -> dict[str, str]:
    return split_url(url).options


def _with_option(url: str, name: str, file: Path) -> str:
    """Return the URL with this option; without its former value, which asyncpg would take as a second one."""
    base, _, query = url.partition("?")
    others = [option for option in query.split("&") if option and option.partition("=")[0] != name]
    return f"{base}?{'&'.join([*others, f'{name}={quote(str(file))}'])}"
