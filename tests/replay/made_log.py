"""An access log that is made: as many visitors as wanted, the same lines each time."""

import random
from collections.abc import Iterator

PAGES = 400
RELOADS = 4
"""Of this many page views one is by a visitor who was there before."""
ODD_LINES = (
    '203.0.113.9 - - [25/Nov/2026:07:00:01 +0700] "GET /theme/site.css HTTP/1.1" 200 512 "-" "{agent}"',
    '203.0.113.9 - - [25/Nov/2026:07:00:02 +0700] "GET /no-such-page HTTP/1.1" 404 512 "-" "{agent}"',
    '203.0.113.9 - - [25/Nov/2026:07:00:03 +0700] "POST /search HTTP/1.1" 200 512 "-" "{agent}"',
    '203.0.113.9 - - [25/Nov/2026:07:00:04 +0700] "GET / HTTP/1.1" 200 512 "-" "Googlebot/2.1"',
    "a line that was cut",
)


def made_log(visitors: int, seed: int = 1) -> Iterator[str]:
    """Yield the lines of a log in combined format with so many distinct pairs of network and browser.

    Visitors share networks and browsers: addresses of one IPv6 /64 are one network, and a network has several browsers.
    """
    dice = random.Random(seed)
    for visitor in range(visitors):
        yield _line(visitor, dice)
        if dice.randrange(RELOADS) == 0:
            yield _line(dice.randrange(visitor + 1), dice)
        if dice.randrange(50) == 0:
            yield dice.choice(ODD_LINES).format(agent=_agent(0)) + "\n"


def _line(visitor: int, dice: random.Random) -> str:
    network, browser = divmod(visitor, 3)
    address = f"198.18.{network // 250}.{network % 250 + 1}"
    if network % 5 == 0:
        address = f"2001:db8:{network // 5:x}:1::{dice.randrange(1, 0xFFFF):x}"
    second = visitor % 60
    page = f"/tin-tuc/{int(dice.paretovariate(1.2)) % PAGES}"
    return (
        f'{address} - - [25/Nov/2026:08:00:{second:02} +0700] "GET {page} HTTP/1.1" 200 512 "-" "{_agent(browser)}"\n'
    )


def _agent(browser: int) -> str:
    return f"Mozilla/5.0 (X11; Linux x86_64; rv:{140 + browser}.0) Gecko/20100101 Firefox/{140 + browser}.0"
