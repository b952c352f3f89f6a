"""The URLs of the stores, taken apart: they may name several servers, which urllib does not read."""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, quote, unquote

PORT_MAX = 65_535
REDIS_PORT, SENTINEL_PORT, POSTGRES_PORT = 6379, 26_379, 5432
URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<login>[^/?#]*)@)?(?P<servers>[^/?#@]*)(?P<path>(?:/[^?#@]*)?)"
    r"(?:\?(?P<query>[^#]*))?(?:#[^@]*)?"
)
SERVER = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\[\]:,\s]*))(?::(?P<port>[0-9]{1,5}))?")


class RedisKind(StrEnum):
    """What answers at a URL of Redis, by the mode that INFO names."""

    SERVER = "standalone"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


KINDS = {
    "redis": RedisKind.SERVER,
    "rediss": RedisKind.SERVER,
    "unix": RedisKind.SERVER,
    "redis+cluster": RedisKind.CLUSTER,
    "rediss+cluster": RedisKind.CLUSTER,
    "redis+sentinel": RedisKind.SENTINEL,
    "rediss+sentinel": RedisKind.SENTINEL,
}
"""By scheme; the double s is for TLS."""


@dataclass(frozen=True, slots=True)
class Server:
    """A host and a port.

    >>> str(Server("2001:db8::7", 6379))
    '[2001:db8::7]:6379'
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The parts of a URL as they are written; `servers` is empty for a socket, or where only options name a host."""

    scheme: str
    login: str
    """User and password with the @ behind them; empty for none."""
    servers: tuple[Server, ...]
    path: str
    query: str

    @property
    def options(self) -> dict[str, str]:
        """The options of the query; the last one of a name holds."""
        return {name: values[-1] for name, values in parse_qs(self.query).items()}

    def query_without(self, *names: str) -> list[str]:
        """Return the options, as they are written, but those of these names."""
        return [option for option in self.query.split("&") if option and option.partition("=")[0] not in names]


def split_url(text: str) -> StoreUrl:
    """Take a URL apart; raises ValueError where it is not one. A server without a port has the scheme's usual one.

    >>> split_url("redis+cluster://h1:7000,[::1]").servers
    (Server(host='h1', port=7000), Server(host='::1', port=6379))
    """
    if not (url := URL.fullmatch(text)):
        raise ValueError("is not a URL")
    written = url["servers"].split(",") if url["servers"] else []
    usual = POSTGRES_PORT if url["scheme"].startswith("postgres") else REDIS_PORT
    if KINDS.get(url["scheme"]) is RedisKind.SENTINEL:
        usual = SENTINEL_PORT
    servers = tuple(_server(server, usual, is_one_of_many=len(written) > 1) for server in written)
    login = "" if url["login"] is None else f"{url['login']}@"
    return StoreUrl(url["scheme"], login, servers, url["path"], url["query"] or "")


def _server(text: str, usual_port: int, *, is_one_of_many: bool) -> Server:
    server = SERVER.fullmatch(text)
    port = int(server["port"] or usual_port) if server else 0
    host = (server["ipv6"] or unquote(server["host"] or "")) if server else ""
    if not 0 < port <= PORT_MAX or (is_one_of_many and not host):
        raise ValueError("names a server that is none")
    return Server(host, port)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """How Redis is reached: one server, the first servers of a cluster, or the sentinels of a service."""

    kind: RedisKind
    servers: tuple[Server, ...]
    service: str
    """The name by which the sentinels know the primary; empty without sentinels."""
    _url: StoreUrl
    _path: str

    @property
    def is_secure(self) -> bool:
        """Whether the servers speak TLS."""
        return self._url.scheme.startswith("rediss")

    def server_url(self, server: Server) -> str:
        """Return the URL of one server that holds data, for redis-py."""
        return self._one(server, self._url.login, self._path)

    def sentinel_url(self, server: Server) -> str:
        """Return the URL of one sentinel, for redis-py: a sentinel has its own user and password, and no database."""
        options = self._url.options
        user, password = (quote(options.get(f"sentinel_{name}", ""), safe="") for name in ("username", "password"))
        return self._one(server, f"{user}:{password}@" if user or password else "", "")

    def _one(self, server: Server, login: str, path: str) -> str:
        query = "&".join(self._url.query_without("sentinel_username", "sentinel_password"))
        scheme = "rediss" if self.is_secure else "redis"
        return f"{scheme}://{login}{server}{path}" + (f"?{query}" if query else "")


def parse_redis_url(text: str) -> RedisUrl:
    """Take a URL of Redis apart; raises ValueError with what is wrong in it.

    >>> url = parse_redis_url("redis+sentinel://:secret@s1,s2:26380/counts/2")
    >>> url.service, url.server_url(Server("10.0.0.7", 6379)), url.sentinel_url(url.servers[1])
    ('counts', 'redis://:secret@10.0.0.7:6379/2', 'redis://s2:26380')
    """
    url = split_url(text)
    kind, path, service = KINDS[url.scheme], url.path, ""
    if kind is RedisKind.SERVER and len(url.servers) > 1:
        raise ValueError(
            "names several servers: begin it with redis+cluster:// or redis+sentinel://, with rediss for TLS"
        )
    if kind is not RedisKind.SERVER and not url.servers:
        raise ValueError("must name at least one server, such as redis+cluster://host:6379")
    if kind is RedisKind.SENTINEL:
        service, slash, database = path.removeprefix("/").partition("/")
        path = slash + database
        if not service:
            raise ValueError("must name the service of the sentinels, such as redis+sentinel://host:26379/mymaster")
    if kind is RedisKind.CLUSTER and path not in ("", "/", "/0"):
        raise ValueError("must end with /0 or with nothing after the hosts: a cluster has no other database")
    if url.scheme != "unix" and not re.fullmatch("/?|/[0-9]{1,9}", path):
        # redis-py would take database 0 for a name, and database 1 for 0/1, without a word.
        raise ValueError("must end with the number of a database, such as /0, or with nothing after the host")
    return RedisUrl(kind, url.servers, unquote(service), url, path)


def postgres_urls(text: str) -> dict[str, str]:
    """Return a URL of PostgreSQL for each host that it names, by the host's name, in its order.

    Where there are several, each must take writes unless the URL asks for other ones. Raises ValueError where hosts and
    ports do not fit.

    >>> list(postgres_urls("postgresql://u@h1,h2:5433/db").values())[1]
    'postgresql://u@/db?target_session_attrs=read-write&host=h2&port=5433'
    """
    url = split_url(text)
    options = url.options
    servers = list(url.servers)
    if not servers and "host" in options:
        hosts, ports = options["host"].split(","), options.get("port", str(POSTGRES_PORT)).split(",")
        if len(ports) not in (1, len(hosts)):
            raise ValueError("must name one port, or a port for each host")
        servers = [Server(host, int(port)) for host, port in zip(hosts, ports * len(hosts), strict=False)]
    if len(servers) < 2:
        return {str(servers[0]) if servers else "": text}
    others = url.query_without("host", "port")
    if "target_session_attrs" not in options:
        others.append("target_session_attrs=read-write")
    return {str(server): f"{url.scheme}://{url.login}{url.path}?{_query(others, server)}" for server in servers}


def _query(others: list[str], server: Server) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return "&".join([*others, f"host={quote(host, safe='')}", f"port={server.port}"])
