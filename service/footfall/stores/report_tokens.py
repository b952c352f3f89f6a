"""Tokens that open the report of a site: shown once, kept as a hash."""

import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from footfall.model.site_id import SiteId
from footfall.stores.postgres_connection import COMMAND_TIMEOUT_S, PostgresConnections, open_connections

TOKEN_BYTES = 32
NO_HASH = bytes(32)
"""Compared with where a site has no token, so that this takes the same time; no token has this hash."""

SAVE = """
    INSERT INTO footfall.report_token (site, hash) VALUES ($1, $2)
    ON CONFLICT (site) DO UPDATE SET hash = EXCLUDED.hash, made_by = DEFAULT, made_at = DEFAULT
"""


class ReportTokens:
    """Makes, checks and revokes tokens; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def make(self, site_id: SiteId) -> str:
        """Return a new token of the site; the one before opens nothing any more.

        It has 256 random bits, so a plain SHA-256 of it cannot be turned back by trying.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        async with self._connections.connection() as connection:
            await connection.execute(SAVE, site_id, _hash(token))
        return token

    async def opens(self, site_id: SiteId, token: str) -> bool:
        """Return whether `token` opens the report of the site; the comparison takes the same time for each guess."""
        async with self._connections.connection() as connection:
            known = await connection.fetchval("SELECT hash FROM footfall.report_token WHERE site = $1", site_id)
        return hmac.compare_digest(_hash(token), known or NO_HASH)

    async def revoke(self, site_id: SiteId) -> bool:
        """Remove the token of the site; return whether there was one."""
        async with self._connections.connection() as connection:
            status = await connection.execute("DELETE FROM footfall.report_token WHERE site = $1", site_id)
        return bool(status == "DELETE 1")


@asynccontextmanager
async def open_report_tokens(url: str) -> AsyncIterator[ReportTokens]:
    """Yield the tokens, which connect on first use; close the connections at the end."""
    async with open_connections(url, COMMAND_TIMEOUT_S) as connections:
        yield ReportTokens(connections)


def _hash(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()
