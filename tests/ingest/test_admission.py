"""Who may count and who is ignored, and what somebody who wants to spoil the numbers can reach."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from footfall.errors import Reason, Refused
from footfall.http.sender import read_sender
from footfall.ingest.admission import Admission
from footfall.ingest.beacon import Beacon, Kind
from footfall.ingest.client_address import AddressResolver, Client
from footfall.ingest.rate_limits import PROXY_FACTOR
from footfall.ingest.visitor import visitor_id
from footfall.settings.settings import Settings

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
SALT = b"week" * 8
VIEW = Beacon("portal", "/", Kind.VIEW, None, webdriver=False)
Sender = tuple[str, str, str | None]
"""Address, user agent, first-party id."""

PLAIN = {"Origin": "https://portal.example.vn", "User-Agent": BROWSER}


@dataclass
class Clock:
    """Monotonic seconds that pass when a test says so."""

    now_s: float = 5000.0

    def __call__(self) -> float:
        return self.now_s


class Edge:
    """An admission with its settings, its clock and a resolver: what a worker has."""

    def __init__(self, **limits: Any) -> None:
        self.settings = Settings.model_validate(
            {
                "sites": {
                    "portal": {
                        "name": "Portal",
                        "hosts": ["portal.example.vn"],
                        "excluded_networks": ["192.0.2.0/28", "2001:db8:5::/48"],
                    },
                    "news": {"name": "News", "hosts": ["news.example.vn"], "pixel_without_origin": True},
                },
                "limits": limits,
            }
        )
        self.clock = Clock()
        self.admission = Admission(self.settings, self.clock)
        self.resolver = AddressResolver(self.settings)

    def client(self, address: str) -> Client:
        return self.resolver.resolve(address, [])

    def send(
        self,
        headers: dict[str, str] | None = None,
        address: str = "203.0.113.9",
        beacon: Beacon = VIEW,
        *,
        pixel: bool = False,
    ) -> Reason | None:
        """Send a view as a browser on the portal would, but for `headers`; an empty one is not sent."""
        fields = CIMultiDict(PLAIN | (headers or {}))
        sent = CIMultiDictProxy(CIMultiDict((name, value) for name, value in fields.items() if value))
        site = self.settings.sites[beacon.site]
        try:
            return self.admission.check(site, beacon, read_sender(sent, self.client(address), is_pixel=pixel))
        except Refused as refused:
            return refused.reason

    def read(self, address: str, site: str = "portal") -> None:
        """Read the numbers of a site."""
        self.admission.check_read(self.settings.sites[site], self.client(address))

    def visitors(self, senders: Iterable[Sender], site: str = "portal") -> set[bytes]:
        """The distinct visitor ids that are let in when these send in turn."""
        let_in = set()
        for address, agent, own_id in senders:
            client = self.client(address)
            visitor = visitor_id(SALT, client, agent, own_id)
            if self.admission.may_add_visitor(self.settings.sites[site], client, visitor):
                let_in.add(visitor)
        return let_in


@pytest.fixture
def edge() -> Edge:
    return Edge()


def test_a_browser_on_the_portal_counts(edge: Edge) -> None:
    """The case that all others are exceptions to."""
    assert edge.send() is None


HERE, ELSEWHERE = "https://portal.example.vn/tin-tuc", "https://elsewhere.example/"


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        pytest.param({"Origin": "https://www.Portal.example.vn.:443"}, None, id="www, case, dot, port"),
        pytest.param({"Origin": "https://elsewhere.example"}, Reason.WRONG_ORIGIN, id="another origin"),
        pytest.param({"Origin": "http://localhost:8080"}, Reason.WRONG_ORIGIN, id="localhost"),
        pytest.param({"Origin": "null"}, Reason.WRONG_ORIGIN, id="a page from disk"),
        pytest.param({"Origin": "https://web.archive.org"}, Reason.WRONG_ORIGIN, id="an archive"),
        pytest.param({"Origin": "https://news.example.vn"}, Reason.WRONG_ORIGIN, id="another site's host"),
        pytest.param({"Origin": "null", "Referer": HERE}, Reason.WRONG_ORIGIN, id="Origin before Referer"),
        pytest.param({"Origin": "", "Referer": HERE}, None, id="Referer"),
        pytest.param({"Origin": "", "Referer": ELSEWHERE}, Reason.WRONG_ORIGIN, id="another Referer"),
        pytest.param({"Origin": ""}, Reason.NO_ORIGIN, id="neither"),
        pytest.param({"Origin": "", "Sec-Fetch-Site": "same-origin"}, Reason.NO_ORIGIN, id="no pixel"),
    ],
)
def test_only_the_pages_of_the_site_may_count(edge: Edge, headers: dict[str, str], answer: Reason | None) -> None:
    """Anyone can read the numbers from anywhere; who may count is another matter."""
    assert edge.send(headers) is answer


@pytest.mark.parametrize("fetch_site", ["same-origin", "same-site", "cross-site", "none", ""])
def test_the_pixel_of_a_page_that_nothing_names_is_no_view(edge: Edge, fetch_site: str) -> None:
    """A sibling host, evil.example.vn, leaves its Referer out and is "same-site"; the printed tag sends its origin."""
    assert edge.send({"Origin": "", "Sec-Fetch-Site": fetch_site}, pixel=True) is Reason.NO_ORIGIN


@pytest.mark.parametrize(
    ("fetch_site", "referer", "answer"),
    [
        pytest.param("same-origin", "", None, id="same origin"),
        pytest.param("same-site", "", None, id="same site"),
        pytest.param("cross-site", "", Reason.NO_ORIGIN, id="another site"),
        pytest.param("none", "", Reason.NO_ORIGIN, id="typed in"),
        pytest.param("", "", Reason.NO_ORIGIN, id="nothing"),
        pytest.param("cross-site", "https://news.example.vn/", None, id="Referer"),
        pytest.param("same-site", ELSEWHERE, Reason.WRONG_ORIGIN, id="another Referer"),
    ],
)
def test_the_pixel_may_come_without_a_referer_where_its_site_takes_it(
    edge: Edge, fetch_site: str, referer: str, answer: Reason | None
) -> None:
    """An old tag, pasted without `referrerpolicy`, in a portal that forbids the Referer."""
    headers = {"Origin": "", "Sec-Fetch-Site": fetch_site, "Referer": referer}
    assert edge.send(headers, pixel=True, beacon=VIEW._replace(site="news")) is answer


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        pytest.param({"Sec-GPC": "1"}, Reason.OPT_OUT, id="opted out"),
        pytest.param({"Sec-GPC": "0"}, None, id="not opted out"),
        pytest.param({"DNT": "1"}, None, id="a withdrawn header that browsers sent unasked"),
        pytest.param({"Sec-Speculation-Tags": "null"}, Reason.PREFETCH, id="by speculation rules without a tag"),
        pytest.param({"Sec-Purpose": "prefetch;prerender"}, Reason.PREFETCH, id="prerender"),
        pytest.param({"Sec-Purpose": "prefetch"}, Reason.PREFETCH, id="prefetch"),
        pytest.param({"Purpose": "Prefetch"}, Reason.PREFETCH, id="an older prefetch"),
        pytest.param({"User-Agent": ""}, Reason.ROBOT, id="no user agent"),
        pytest.param({"User-Agent": "curl/8.10.1"}, Reason.ROBOT, id="curl"),
        pytest.param({"User-Agent": f"{BROWSER} HeadlessChrome/142"}, Reason.ROBOT, id="headless"),
        pytest.param({"Signature-Agent": '"https://agent.example"'}, Reason.ROBOT, id="signed by an agent"),
    ],
)
def test_who_is_not_a_reader_is_ignored_for_its_reason(
    edge: Edge, headers: dict[str, str], answer: Reason | None
) -> None:
    """An ignored beacon gets a normal answer and appears in the metric of its reason."""
    assert edge.send(headers) is answer


def test_a_browser_that_a_program_drives_is_a_robot(edge: Edge) -> None:
    """The script reports `navigator.webdriver`; the user agent of such a browser is an ordinary one."""
    assert edge.send(beacon=Beacon("portal", "/", Kind.VIEW, None, webdriver=True)) is Reason.ROBOT


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        pytest.param("192.0.2.7", Reason.EXCLUDED, id="IPv4"),
        pytest.param("::ffff:192.0.2.7", Reason.EXCLUDED, id="mapped"),
        pytest.param("2001:db8:5:1::1", Reason.EXCLUDED, id="IPv6"),
        pytest.param("192.0.2.16", None, id="the next address"),
    ],
)
def test_the_site_s_own_people_and_monitors_are_left_out(edge: Edge, address: str, answer: Reason | None) -> None:
    """An editor with the page open all day is not a reader."""
    assert edge.send(address=address) is answer


def test_an_excluded_network_of_one_site_counts_on_another(edge: Edge) -> None:
    """Each site has its own list."""
    news = Beacon("news", "/", Kind.VIEW, None, webdriver=False)
    assert edge.send({"Origin": "https://news.example.vn"}, "192.0.2.7", news) is None


def test_over_the_limit_a_network_is_told_when_to_come_back() -> None:
    """429 with a Retry-After that holds."""
    edge = Edge(beacons_per_s=0.25, beacons_burst=3)
    assert [edge.send() for _ in range(4)] == [None, None, None, Reason.RATE_LIMITED]
    with pytest.raises(Refused) as refused:
        edge.admission.check(edge.settings.sites["portal"], VIEW, read_sender(PLAIN, edge.client("203.0.113.9")))
    assert refused.value.status == 429
    retry_after_s = refused.value.retry_after_s
    assert retry_after_s is not None
    assert 1 <= retry_after_s <= 4
    edge.clock.now_s += retry_after_s
    assert edge.send() is None


def test_a_flood_from_one_network_does_not_touch_another() -> None:
    """Budgets are per network: the others do not even notice."""
    edge = Edge(beacons_per_s=1, beacons_burst=100)
    flood = [edge.send(address="203.0.113.9") for _ in range(5000)]
    assert flood.count(None) == 100
    assert [edge.send(address="203.0.113.10") for _ in range(100)] == [None] * 100


def test_an_office_that_is_over_its_budget_on_one_site_is_not_on_another() -> None:
    """Beacons, new visitors and reads of one portal shut an office out of none of its neighbours."""
    edge = Edge(beacons_burst=3, new_visitors_per_10_min=3, reads_burst=3)
    office, people = "203.0.113.9", [("203.0.113.9", BROWSER, f"person-{number}") for number in range(9)]
    for _ in range(3):
        edge.send(address=office)
        edge.read(office)
    assert edge.send(address=office) is Reason.RATE_LIMITED
    with pytest.raises(Refused):
        edge.read(office)
    assert len(edge.visitors(people)) == 3
    news = Beacon("news", "/", Kind.VIEW, None, webdriver=False)
    assert edge.send({"Origin": "https://news.example.vn"}, office, news) is None
    edge.read(office, "news")
    assert len(edge.visitors([(*sender[:2], f"news {sender[2]}") for sender in people], "news")) == 3


def test_over_the_limit_the_numbers_can_still_be_read() -> None:
    """Reading has its own budget, which is far larger."""
    edge = Edge(beacons_burst=1, reads_per_s=1, reads_burst=50)
    edge.send()
    assert edge.send() is Reason.RATE_LIMITED
    for _ in range(50):
        edge.read("203.0.113.9")
    with pytest.raises(Refused, match="rate_limited"):
        edge.read("203.0.113.9")


def test_a_refused_origin_costs_its_network_nothing() -> None:
    """A strange page that many people of one office have open must not shut that office out."""
    edge = Edge(beacons_burst=10)
    assert {edge.send({"Origin": "https://evil.example"}) for _ in range(1000)} == {Reason.WRONG_ORIGIN}
    assert [edge.send() for _ in range(10)] == [None] * 10
    assert edge.admission.busiest_network_share() == 0


def test_limits_can_be_switched_off() -> None:
    """A log replay sends a month from one place in a minute."""
    edge = Edge(enabled=False, beacons_burst=1, reads_burst=1, new_visitors_per_10_min=1)
    assert {edge.send() for _ in range(100)} == {None}
    assert len(edge.visitors(("203.0.113.9", BROWSER, f"id{number}") for number in range(100))) == 100
    for _ in range(100):
        edge.read("203.0.113.9")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_trusted_proxy_that_names_no_client_has_a_higher_limit(address: str) -> None:
    """It stands for all clients behind it, and one of them could flood; no limit at all was an open door."""
    edge = Edge(beacons_burst=10, reads_burst=10, new_visitors_per_10_min=10)
    most = 10 * PROXY_FACTOR
    assert {edge.send(address=address) for _ in range(most)} == {None}
    assert edge.send(address=address) is Reason.RATE_LIMITED
    assert edge.send(address="203.0.113.9") is None
    assert len(edge.visitors((address, BROWSER, f"id{number}") for number in range(most + 50))) == most
    for _ in range(most):
        edge.read(address)
    with pytest.raises(Refused, match="rate_limited"):
        edge.read(address)
    assert edge.admission.busiest_network_share() == 0


def test_a_proxy_that_is_not_trusted_yet_shows() -> None:
    """The doctor and a metric show why the whole country is one visitor."""
    edge = Edge()
    for number in range(1000):
        edge.send(address="198.51.100.1" if number % 10 else "203.0.113.9")
    assert edge.admission.busiest_network_share() == pytest.approx(0.9)


def test_a_thousand_people_behind_one_address_all_count(edge: Edge) -> None:
    """An office at eight o'clock: views exactly, visitors by their own ids, and all read the numbers."""
    office = "203.0.113.9"
    people = [f"person-{number}" for number in range(1000)]
    for _ in range(5):
        assert {edge.send(address=office) for _ in people} == {None}
        for _ in people:
            edge.read(office)
    assert len(edge.visitors((office, BROWSER, person) for person in people)) == 1000


def test_a_known_visitor_is_never_new_again(edge: Edge) -> None:
    """Reloads and pings must not use up what colleagues need."""
    office = "203.0.113.9"
    assert len(edge.visitors((office, BROWSER, f"id{number % 100}") for number in range(50_000))) == 100
    assert len(edge.visitors((office, BROWSER, f"late{number}") for number in range(1000))) == 900


def test_who_is_over_the_budget_of_new_visitors_counts_later() -> None:
    """The visitor is late, not lost: the next ping after the budget has refilled brings the visitor in."""
    edge = Edge(new_visitors_per_10_min=600)
    people = [("203.0.113.9", BROWSER, f"person-{number}") for number in range(900)]
    assert len(edge.visitors(people)) == 600
    edge.clock.now_s += 60
    assert len(edge.visitors(people)) == 660
    edge.clock.now_s += 300
    assert len(edge.visitors(people)) == 900


@pytest.mark.parametrize(
    ("sender", "tries", "let_in"),
    [
        pytest.param(lambda n: ("203.0.113.9", BROWSER, f"{n:x}"), 10_000, 1000, id="random ids"),
        pytest.param(lambda n: ("203.0.113.9", f"Browser {n}", None), 5000, 1000, id="user agents"),
        pytest.param(lambda n: (f"2001:db8:1:2::{n:x}", BROWSER, None), 10_000, 1, id="addresses in a /64"),
        pytest.param(
            lambda n: (f"2001:db8:1:2::{n:x}", BROWSER, f"{n:x}"),
            10_000,
            1000,
            id="addresses and ids in a /64",
        ),
        pytest.param(lambda n: (f"2001:db8:1:{n:x}::1", BROWSER, None), 10_240, 4075, id="networks in a /48"),
        pytest.param(lambda n: (f"2001:db8:1:{n:x}::1", BROWSER, f"{n:x}"), 10_240, 4075, id="ids in a /48"),
    ],
)
def test_one_client_cannot_invent_more_visitors_than_its_budget(
    edge: Edge, sender: Callable[[int], Sender], tries: int, let_in: int
) -> None:
    """What one subscriber line can add to the numbers at once is known beforehand."""
    assert len(edge.visitors(map(sender, range(tries)))) == let_in


@pytest.mark.parametrize(
    ("frames", "answer"),
    [
        pytest.param((), None, id="no frame"),
        pytest.param(("https://portal.example.vn",), None, id="its own site"),
        pytest.param(("https://portal.example.vn", "https://elsewhere.example"), Reason.FRAMED, id="a foreign page"),
        pytest.param(("https://news.example.vn",), Reason.FRAMED, id="another site's host"),
        pytest.param(("",), Reason.FRAMED, id="a page that the browser hides"),
        pytest.param(("null",), Reason.FRAMED, id="a sandbox"),
    ],
)
def test_a_page_in_a_frame_counts_only_among_pages_of_its_site(
    edge: Edge, frames: tuple[str, ...], answer: Reason | None
) -> None:
    """The portal in a hidden frame of a popular page would count a visitor at each load of that page."""
    assert edge.send(beacon=VIEW._replace(frames=frames)) is answer
