"""What one part of an installation can give at most, and what of it a load takes: what breaks first, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.scale.model import BUSY, CONNECTIONS_OF_WORKER, Load, Needs


@dataclass(frozen=True, slots=True)
class Bound:
    """What one part can give, and what to do when it is used up."""

    name: str
    used: float
    """Part of it that the load takes: above 1 it does not fit."""
    what: str
    advice: str
    is_more_of_same: bool = False
    """Whether more servers are the whole answer."""


def bounds(need: Needs, load: Load, workers: int | None = None) -> list[Bound]:
    """Return each part with what of it is used, the one that breaks first at the head.

    `workers` is how many there are; None: as many as it takes.
    """
    return sorted(_bounds(need, load, workers), key=lambda bound: -bound.used)


CLUSTER_SERVERS, POSTGRES_CORES, WAL_PER_S, CONNECTIONS_MAX = 1000, 16, 200e6, 90
REDIS_BYTES, WORKER_BYTES, SITE_CORES = 25e9, 1e9, BUSY


def _bounds(need: Needs, load: Load, workers: int | None) -> Iterator[Bound]:
    if workers is not None:
        yield Bound(
            "workers",
            need.workers / workers,
            f"{need.workers:,} needed, {workers:,} there",
            "Start more workers.",
            True,
        )
    yield Bound(
        "one Redis server",
        need.redis_cores / BUSY,
        f"{need.redis_cores:.2f} cores; it uses one, half of it at the busiest moment",
        "Use a Redis Cluster: it spreads the sites over its primaries.",
        is_more_of_same=True,
    )
    yield Bound(
        "a Redis Cluster",
        need.redis_servers / CLUSTER_SERVERS,
        f"{need.redis_servers:,} primaries; beyond {CLUSTER_SERVERS:,} a cluster is not advised",
        "Divide the sites among installations, each with its own cluster.",
    )
    yield Bound(
        "the memory of a Redis server",
        need.redis_bytes / need.redis_servers / REDIS_BYTES,
        f"{need.redis_bytes / need.redis_servers / 1e9:.2f} GB each; {REDIS_BYTES / 1e9:.0f} GB are taken for full",
        "More primaries, or exact_up_to = 0 for sites that need no exact numbers.",
    )
    site_cores = need.redis_cores / load.sites
    yield Bound(
        "one site on its Redis server",
        site_cores / SITE_CORES,
        f"{site_cores:.4f} cores; a site is on one server",
        "A site cannot be divided: keep it on one host at the balancer, so that its batches grow.",
    )
    yield Bound(
        "PostgreSQL's processors",
        need.postgres_cores / (POSTGRES_CORES * BUSY),
        f"{need.postgres_cores:.2f} cores; {POSTGRES_CORES} are taken for a large server, half in use",
        "Raise FOOTFALL_ROLLUP_EVERY_S, up to 300: a busy site, and each busy page, is then one row in five minutes.",
    )
    yield Bound(
        "PostgreSQL's log (WAL)",
        need.wal_per_s / WAL_PER_S,
        f"{need.wal_per_s / 1e6:,.1f} MB/s; {WAL_PER_S / 1e6:.0f} MB/s are taken for full",
        "Raise FOOTFALL_ROLLUP_EVERY_S, up to 300; beyond that, divide the sites among installations.",
    )
    yield Bound(
        "PostgreSQL's connections",
        need.postgres_connections / CONNECTIONS_MAX,
        f"{need.postgres_connections:,}, {CONNECTIONS_OF_WORKER} for each worker; max_connections is 100 by default",
        "Put pgbouncer between, in transaction mode, or raise max_connections.",
    )
    yield Bound(
        "the memory of a worker",
        need.worker_bytes / WORKER_BYTES,
        f"{need.worker_bytes / 1e6:,.0f} MB each, for all sites and their pages; {WORKER_BYTES / 1e9:.0f} GB is full",
        "Give groups of sites hosts of their own, each with a footfall.toml of these sites alone.",
    )
