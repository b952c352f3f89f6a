"""Who sent a beacon: the client, and what its browser says of itself and of the page."""

from typing import NamedTuple

from footfall.ingest.client_address import Client


class Sender(NamedTuple):
    """One sender, without the form in which it was sent: HTTP headers are read in `http/sender.py`.

    A tuple, as `Beacon` is, because one is made per request. Only `client` must be known; a sender without origin
    and referer counts only where `is_same_site`, and the settings of the site take that.
    """

    client: Client
    origin: str | None = None
    """The page's scheme and host; where it is known it decides alone whose page it is."""
    referer: str | None = None
    """The page's URL, for browsers that send no origin."""
    user_agent: str = ""
    is_same_site: bool = False
    """The browser says that the page is of the counter's own site, or of a sibling of that site."""
    opts_out: bool = False
    """Global Privacy Control: the visitor asks not to be measured."""
    is_prefetch: bool = False
    """The browser fetches a page that the visitor has not opened yet."""
    signs_as_agent: bool = False
    """The request names the keys of an automated agent (Web Bot Auth)."""
