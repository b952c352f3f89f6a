"""Who a visitor is: an opaque id from the client's network, its user agent and the salt of the week."""

import struct
from hashlib import blake2b

from footfall.ingest.client_address import Client

USER_AGENT_MAX_CHARS = 512
VISITOR_ID_BYTES = 16

_LENGTHS = struct.Struct(">BH")


def visitor_id(salt: bytes, client: Client, user_agent: str, first_party: str | None) -> bytes:
    """Return 16 opaque bytes for one visitor: BLAKE2b keyed by the salt of the site's week (at most 64 bytes).

    The lengths of network and user agent (its first 512 characters) are hashed too, so that no other pair spells the
    same bytes. The page's own random id follows, where the site uses one.
    """
    # surrogatepass: a header that is not UTF-8 arrives with lone surrogates.
    agent = user_agent[:USER_AGENT_MAX_CHARS].encode(errors="surrogatepass")
    hashed = _LENGTHS.pack(len(client.network), len(agent)) + client.network + agent
    if first_party is not None:
        hashed += b"\x01" + first_party.encode(errors="surrogatepass")
    return blake2b(hashed, digest_size=VISITOR_ID_BYTES, key=salt).digest()
