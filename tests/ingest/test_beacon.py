"""What a page may say, and that nothing it says can raise anything but a refusal."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from footfall.errors import Reason, Refused
from footfall.ingest.beacon import BODIES_REMEMBERED_MAX, BODY_MAX_BYTES, Beacon, Kind, _parse, parse_beacon

REFUSALS = {Reason.BAD_JSON, Reason.BAD_FIELD, Reason.TOO_LARGE}


def read(body: bytes) -> Beacon | Reason:
    """The beacon, or why it is refused; any other exception fails the test."""
    try:
        return parse_beacon(body)
    except Refused as refused:
        return refused.reason


def test_a_full_beacon_is_read() -> None:
    """The shape that the script ships; its names and meanings never change."""
    body = b'{"site":"portal","page":"/tin-tuc/1","kind":"ping","visitor":"Ab_-9","webdriver":true}'
    assert parse_beacon(body) == Beacon("portal", "/tin-tuc/1", Kind.PING, "Ab_-9", webdriver=True)
    framed = b'{"site":"portal","frames":["https://portal.example.vn",""]}'
    assert parse_beacon(framed).frames == ("https://portal.example.vn", "")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"site":"portal"}', id="the smallest"),
        pytest.param(b' {"site" : "portal"}\r\n', id="with white space"),
        pytest.param(
            b'{"site":"portal","page":null,"kind":null,"visitor":null,"webdriver":null,"frames":null}',
            id="nulls are absent",
        ),
        pytest.param(b'{"site":"portal","webdriver":false}', id="no webdriver"),
        pytest.param(b'{"site":"portal","screen":{"w":[1e999]},"v":2}', id="fields of a newer script"),
        pytest.param(b'{"site":"portal","n":' + b"9" * 3000 + b"}", id="a huge number in an unknown field"),
        pytest.param(b'{"site":"portal","x":"\\u0000"}', id="a NUL in an unknown field"),
    ],
)
def test_what_is_absent_or_unknown_does_not_stop_a_view(body: bytes) -> None:
    """A script cached for a year still counts, and so does one from next year."""
    assert parse_beacon(body) == Beacon("portal", None, Kind.VIEW, None, webdriver=False)


@pytest.mark.parametrize(
    ("page", "visitor"),
    [
        pytest.param("/" + "a" * 2047, "v" * 64, id="longest"),
        pytest.param("", "0", id="shortest"),
        pytest.param("/tin-tức/đầu trang?x=1#y", "a-b_C", id="vietnamese"),
        pytest.param("/😀", None, id="beyond the basic plane"),
    ],
)
def test_a_path_of_any_script_and_an_id_of_any_length_allowed_are_kept(page: str, visitor: str | None) -> None:
    """Portals have paths in Vietnamese; browsers write emoji as pairs of escapes."""
    beacon = parse_beacon(json.dumps({"site": "p", "page": page, "visitor": visitor}).encode())
    assert (beacon.page, beacon.visitor) == (page, visitor)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"site=portal", id="a form"),
        pytest.param(b'{"site":"portal"} {}', id="two objects"),
        pytest.param(b'["portal"]', id="an array"),
        pytest.param(b'"portal"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1", id="a number"),
        pytest.param(b'{"site":"portal","site":"other"}', id="a key twice"),
        pytest.param(b'{"site":"portal","x":{"a":1,"a":2}}', id="a key twice deeper"),
        pytest.param(b'{"site":"portal","x":NaN}', id="NaN"),
        pytest.param(b'{"site":"portal","x":-Infinity}', id="Infinity"),
        pytest.param(b'{"site":"por\xfftal"}', id="invalid UTF-8"),
        pytest.param(b'{"site":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"site":"portal"}', id="a byte order mark"),
        pytest.param('{"site":"portal"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"site":"portal","page":"a\x00b"}', id="a NUL as it is"),
        pytest.param(b"[" * BODY_MAX_BYTES, id="open brackets only"),
        pytest.param(b'{"a":' * 700 + b"1" + b"}" * 501, id="deep objects"),
        pytest.param(b"[" * 2048 + b"]" * 2048, id="deep arrays"),
    ],
)
def test_what_is_not_one_plain_json_object_is_bad_json(body: bytes) -> None:
    """Every shape of garbage gets the same short answer, without a traceback."""
    assert read(body) is Reason.BAD_JSON


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no site"),
        pytest.param({"site": None}, id="site null"),
        pytest.param({"site": ["portal"]}, id="site a list"),
        pytest.param({"site": 7}, id="site a number"),
        pytest.param({"site": ""}, id="site empty"),
        pytest.param({"site": "Portal"}, id="site in capitals"),
        pytest.param({"site": "-portal"}, id="site begins with a hyphen"),
        pytest.param({"site": "p" * 33}, id="site too long"),
        pytest.param({"site": "portal\n"}, id="site with a line end"),
        pytest.param({"site": "ff1:{x}"}, id="site like a key"),
        pytest.param({"site": "pörtal"}, id="site not ASCII"),
        pytest.param({"site": "p", "page": 1}, id="page a number"),
        pytest.param({"site": "p", "page": {}}, id="page an object"),
        pytest.param({"site": "p", "page": "/" + "a" * 2048}, id="page too long"),
        pytest.param({"site": "p", "page": "/\x00"}, id="page with a NUL"),
        pytest.param({"site": "p", "page": "/\nx"}, id="page with a line end"),
        pytest.param({"site": "p", "page": "/\ud800"}, id="page with half a pair"),
        pytest.param({"site": "p", "kind": "leave"}, id="kind unknown"),
        pytest.param({"site": "p", "kind": "VIEW"}, id="kind in capitals"),
        pytest.param({"site": "p", "kind": ["view"]}, id="kind a list"),
        pytest.param({"site": "p", "kind": 1}, id="kind a number"),
        pytest.param({"site": "p", "visitor": ""}, id="visitor empty"),
        pytest.param({"site": "p", "visitor": "v" * 65}, id="visitor too long"),
        pytest.param({"site": "p", "visitor": "a.b"}, id="visitor with a dot"),
        pytest.param({"site": "p", "visitor": 10**300}, id="visitor a huge number"),
        pytest.param({"site": "p", "webdriver": 1}, id="webdriver a number"),
        pytest.param({"site": "p", "webdriver": "true"}, id="webdriver a string"),
        pytest.param({"site": "p", "frames": "https://portal.example.vn"}, id="frames a string"),
        pytest.param({"site": "p", "frames": [7]}, id="a frame that is a number"),
        pytest.param({"site": "p", "frames": ["https://" + "a" * 300]}, id="a frame too long"),
        pytest.param({"site": "p", "frames": [""] * 11}, id="frames too deep"),
    ],
)
def test_a_known_field_of_another_shape_is_a_bad_field(fields: dict[str, object]) -> None:
    """A shipped field keeps its meaning, so a wrong value is a mistake that its author should learn of."""
    assert read(json.dumps(fields).encode()) is Reason.BAD_FIELD


def test_a_body_may_have_4096_bytes_and_no_more() -> None:
    """Nothing longer is even decoded."""
    start = b'{"site":"p","x":"'
    body = start + b"a" * (BODY_MAX_BYTES - len(start) - 2) + b'"}'
    assert parse_beacon(body).site == "p"
    assert read(body + b" ") is Reason.TOO_LARGE


@given(st.binary(max_size=5000))
@example(b'{"site":"a","kind":"\\ud83d"}')
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """An exception of another kind would be a 500 and a traceback that any client could cause."""
    answer = read(body)
    assert isinstance(answer, Beacon) or answer in REFUSALS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELD = JSON | st.sampled_from(["portal", "view", "ping", "/", "a-b"])


@given(st.dictionaries(st.sampled_from(["site", "page", "kind", "visitor", "webdriver", "more"]), FIELD) | JSON)
def test_any_json_is_read_as_it_was_said_or_refused(sent: object) -> None:
    """What is accepted has the documented shape and was in the message: nothing is guessed or repaired."""
    answer = read(json.dumps(sent).encode())
    if not isinstance(answer, Beacon):
        assert answer in REFUSALS
        return
    assert isinstance(sent, dict)
    present = {name: value for name, value in sent.items() if value is not None}
    assert answer.site == sent["site"]
    assert answer.page == present.get("page")
    (answer.page or "").encode()
    assert answer.kind == present.get("kind", "view")
    assert answer.visitor == present.get("visitor")
    assert answer.webdriver is present.get("webdriver", False)


@given(
    st.one_of(
        st.dictionaries(st.sampled_from(["site", "page", "kind", "view", "again", "more"]), FIELD).map(json.dumps),
        st.lists(st.sampled_from(['{"site":"a"', '"', "\\", ",", '"view":null', '"view" :"0"', "[", "]", "}"])).map(
            "".join
        ),
    ),
    st.binary(min_size=8, max_size=8),
)
@example('{"site":"a","view":"0000000000000000"}', b"other id")
@example('{"site":"a","\\u0076iew":null}', b"view-id.")
@example('{"site":"a,}', b"view-id.")
def test_an_id_at_the_end_of_a_body_changes_nothing_else(start: str, view: bytes) -> None:
    """Where the script puts it, the rest of the body may be known already: what is read must be the same."""
    body = f'{start.removesuffix("}")},"view":"{view.hex()}"}}'.encode()
    try:
        expected: Beacon | Reason = _parse.__wrapped__(body)
    except Refused as refused:
        expected = refused.reason
    assert read(body) == expected


def test_views_of_one_page_are_read_once() -> None:
    """Each view has an id of its own, and all else in the bodies of one page is equal."""
    misses = _parse.cache_info().misses
    bodies = [b'{"site":"portal","page":"/once","kind":"view","view":"%016x"}' % number for number in range(9)]
    assert [parse_beacon(body).view for body in bodies] == [number.to_bytes(8, "big") for number in range(9)]
    assert _parse.cache_info().misses == misses + 1


def test_what_was_said_before_is_not_read_again() -> None:
    """Most views are of few pages; what is remembered is bounded, and a refusal is not."""
    body = b'{"site":"portal","page":"/again"}'
    assert parse_beacon(body) is parse_beacon(bytes(bytearray(body)))
    assert [read(b'{"site":7}') for _ in range(2)] == [Reason.BAD_FIELD] * 2
    assert _parse.cache_info().maxsize == BODIES_REMEMBERED_MAX
