"""The requests of a bench, as browsers send them: one definition for every load generator and every server."""

import random
import secrets
from functools import cache
from hashlib import blake2b

SITE, HOST = "bench", "bench.example.vn"
"""The site that the bench counts on, and the host of its pages; Footfall itself is at `count.example.vn`."""
VISITORS, PAGES = 100_000, 1_000
ROBOT_EVERY = 50
"""2 % of the beacons come from robots, which are answered and not counted."""

BROWSERS = (
    (
        'sec-ch-ua-platform: "Windows"\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36'
        ' (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\nsec-ch-ua: "Chromium";v="142", "Google Chrome";v="142",'
        ' "Not_A Brand";v="99"\r\nsec-ch-ua-mobile: ?0'
    ),
    (
        'sec-ch-ua-platform: "Android"\r\nUser-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36'
        ' (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36\r\nsec-ch-ua: "Google Chrome";v="141",'
        ' "Not?A_Brand";v="8", "Chromium";v="141"\r\nsec-ch-ua-mobile: ?1'
    ),
    (
        "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        " Version/18.1 Mobile/15E148 Safari/604.1"
    ),
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
)
ROBOT = "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def is_robot(visitor: int) -> bool:
    """Return whether the beacon of this visitor comes from a robot."""
    return visitor % ROBOT_EVERY == 0


def site_names(sites: int) -> list[str]:
    """Return the ids of the counted sites; most of a bench needs only the first.

    >>> site_names(3)
    ['bench', 'bench-1', 'bench-2']
    """
    return [SITE, *(f"{SITE}-{number}" for number in range(1, sites))]


@cache
def beacons(sites: int = 1, *, with_pages: bool = True, with_ids: bool = False) -> tuple[bytes, ...]:
    """Return one view by each of the visitors, robots among them, on any of the first `sites` of `site_names`.

    The script sends them with page and id.
    """
    dice = random.Random(20261123)
    names = site_names(sites)
    drawn = ((dice.choice(names), f'"page":"/tin-tuc/{dice.randrange(PAGES)}",') for _ in range(VISITORS))
    bodies = (
        f'{{"site":"{name}",{page if with_pages else ""}"kind":"view"{_id(visitor) if with_ids else ""}}}'
        for visitor, (name, page) in enumerate(drawn)
    )
    return tuple(_beacon(visitor, body) for visitor, body in enumerate(bodies))


def view(visitor: int, site: str, page: str) -> bytes:
    """Return a view of a page as the script sends it, with an id of its own."""
    return _beacon(visitor, f'{{"site":"{site}","page":"{page}","kind":"view","view":"{secrets.token_hex(8)}"}}')


@cache
def reads(etag: str = "") -> tuple[bytes, ...]:
    """Return one read by each of the visitors, who know the numbers of `etag` already."""
    known = f"If-None-Match: {etag}\r\n" if etag else ""
    return tuple(_request(f"GET /counts?site={SITE}", visitor, known) for visitor in range(VISITORS))


def _beacon(visitor: int, body: str) -> bytes:
    fields = f"Content-Length: {len(body)}\r\nContent-Type: text/plain;charset=UTF-8\r\n"
    return _request("POST /seen", visitor, fields, body)


def _id(visitor: int) -> str:
    """Return the field with the id of a view; ids are random, so hashed here."""
    return f',"view":"{blake2b(str(visitor).encode(), digest_size=8).hexdigest()}"'


def _request(line: str, visitor: int, fields: str, body: str = "") -> bytes:
    browser = ROBOT if is_robot(visitor) else BROWSERS[visitor % len(BROWSERS)]
    address = f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255}"
    return (
        f"{line} HTTP/1.1\r\nHost: count.example.vn\r\n{browser}\r\n{fields}Accept: */*\r\n"
        f"Origin: https://{HOST}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
        f"Referer: https://{HOST}/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
        f"Accept-Language: vi-VN,vi;q=0.9,en-US;q=0.6,en;q=0.5\r\nX-Forwarded-For: {address}\r\n\r\n{body}"
    ).encode()
