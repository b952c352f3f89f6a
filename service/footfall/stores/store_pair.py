"""Redis and Postgres of one installation."""

from dataclasses import dataclass

from footfall.stores.postgres_store import PostgresStore
from footfall.stores.redis_store import RedisStore


@dataclass(frozen=True, slots=True)
class StorePair:
    """Both stores; Redis is recognised by the installation's id, which Postgres has."""

    redis: RedisStore
    postgres: PostgresStore

    async def learn_installation(self) -> None:
        """Read the installation's id in Postgres, and count only into a Redis that carries it.

        Raises StoreUnavailable.
        """
        self.redis.installation = await self.postgres.installation()
