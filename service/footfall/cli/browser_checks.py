"""What `footfall doctor` checks of the way from a browser to the service."""

import asyncio
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

from footfall.cli.checks import Check, Level
from footfall.cli.ops_listener import HTTP_TIMEOUT
from footfall.settings.settings import Site

LOOKUP_S = 3


async def check_script(public_url: str) -> Check:
    """Check that a browser gets the script at the address in the snippet."""
    url = f"{public_url}/footfall.js"
    advice = "look whether footfall serve runs, at the proxy in front, and at public_url"
    try:
        async with aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http, http.get(url) as response:
            body = await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return Check("script", f"{url} does not load: {str(error) or type(error).__name__}; {advice}", Level.FAIL)
    if response.status != 200 or response.content_type != "text/javascript" or not body:
        answer = f"{response.status} with {len(body)} bytes of {response.content_type}"
        return Check("script", f"{url} answers {answer}, not the script; {advice}", Level.FAIL)
    return Check("script", f"{url} loads, {len(body)} bytes")


async def check_address(site: Site, public_url: str, *, is_private: bool) -> Check:
    """Check that no public page has to reach a private address: there browsers ask each visitor for permission.

    Chrome calls it Local Network Access. Pages that are private themselves, such as an intranet's, may.
    """
    what = f"address of {site.id}"
    if not is_private:
        return Check(what, f"{public_url} is public, or its name is not known here")
    for host in site.hosts:
        name = urlsplit(f"//{host.removeprefix('*.')}").hostname or ""
        if await _is_public(name):
            found = f"{public_url} is a private address, and pages of {name} are public"
            advice = (
                "browsers ask visitors before they reach it, and most are not counted; give public_url a public name"
            )
            return Check(what, f"{found}: {advice}", Level.WARN)
    return Check(what, f"{public_url} is private, as the pages of the site are, or not known here")


async def is_private(public_url: str) -> bool:
    """Return whether an URL leads to private addresses only."""
    found = await _addresses(urlsplit(public_url).hostname or "")
    return bool(found) and not any(ip_address(address).is_global for address in found)


async def _is_public(host: str) -> bool:
    return any(ip_address(address).is_global for address in await _addresses(host))


async def _addresses(host: str) -> set[str]:
    """Return the addresses of a host; none where its name is not known."""
    lookup = asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(lookup, LOOKUP_S)
    except (OSError, TimeoutError, UnicodeError):
        return set()
    return {str(address[0]).partition("%")[0] for *_, address in found}
