"""Canaries for what `_compat.py` and `_compat_processes.py` use of libraries beyond their documentation."""

import ast
import asyncio
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from footfall._compat import QuickHistogram, stream_of, value_of
from footfall.stores.redis_pool import RedisPool
from tests.support.project import PACKAGE, PROJECT

LIBRARIES = ("aiohttp", "multiprocessing", "prometheus_client", "redis")
COMPAT = {PACKAGE / "_compat.py", PACKAGE / "_compat_processes.py"}
UNDOCUMENTED = re.compile(r"multiprocessing\.resource_tracker|prometheus_client\.(values|mmap_dict)")
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}

RESOURCE_TRACKER = (
    "multiprocessing no longer has resource_tracker.ensure_running. Look how a spawned process starts the tracker now:"
    " it must run before Supervisor blocks SIGINT and starts the first worker, or no longer unblock signals."
)
REQUEST_HANDLER = (
    "aiohttp's RequestHandler no longer has this method. http/server.py overrides it, to limit connections and to"
    " answer what is not HTTP: find what is called now when a connection begins, ends, or sends no HTTP."
)
SERVER = (
    "aiohttp's Server no longer has this. http/server.py makes its own connections with it, and drains and closes"
    " them: read web_runner.py for what a runner calls now."
)
VALUES = (
    "prometheus_client no longer takes its numbers from values.ValueClass. Look in metrics.py for what a Counter keeps"
    " its number in: metrics/multiprocess.py has to put its own in that place."
)
MMAP = (
    "prometheus_client.mmap_dict no longer has this. Look in multiprocess.py how MultiProcessCollector reads its files:"
    " metrics/multiprocess.py has to write them in the same format."
)
NUMBERS = (
    "prometheus_client counts elsewhere now. Look in metrics.py where a Counter and a Histogram keep their numbers:"
    " _compat.py adds to them directly."
)
WRITER = (
    "aiohttp's requests no longer have a writer. Look in web_response.py how StreamResponse sends its head:"
    " http/responses.py sends whole answers through the same object."
)
CONNECTION = (
    "redis-py's connections no longer have a `_reader`. Look in asyncio/connection.py what a connection reads from:"
    " stores/redis_pool.py asks it whether the server has ended the connection."
)


@pytest.mark.parametrize(
    ("module", "name", "advice"),
    [
        pytest.param("multiprocessing.resource_tracker", "ensure_running", RESOURCE_TRACKER, id="ensure_running"),
        pytest.param("multiprocessing.resource_tracker", "ResourceTracker._stop", RESOURCE_TRACKER, id="_stop"),
        pytest.param("aiohttp.web", "RequestHandler.connection_made", REQUEST_HANDLER, id="connection_made"),
        pytest.param("aiohttp.web", "RequestHandler.connection_lost", REQUEST_HANDLER, id="connection_lost"),
        pytest.param("aiohttp.web", "RequestHandler.eof_received", REQUEST_HANDLER, id="eof_received"),
        pytest.param("aiohttp.web", "RequestHandler.pause_writing", REQUEST_HANDLER, id="pause_writing"),
        pytest.param("aiohttp.web", "RequestHandler.resume_writing", REQUEST_HANDLER, id="resume_writing"),
        pytest.param("aiohttp.web", "RequestHandler._waiter", REQUEST_HANDLER, id="_waiter"),
        pytest.param("aiohttp.web", "RequestHandler._pause_reading_for_buffer", REQUEST_HANDLER, id="hold"),
        pytest.param("aiohttp.web", "RequestHandler._resume_reading_if_drained", REQUEST_HANDLER, id="release"),
        pytest.param("aiohttp.web", "RequestHandler.handle_error", REQUEST_HANDLER, id="handle_error"),
        pytest.param("aiohttp.web", "Server.__call__", SERVER, id="Server()"),
        pytest.param("aiohttp.web", "Server.connections", SERVER, id="connections"),
        pytest.param("aiohttp.web", "Server.pre_shutdown", SERVER, id="pre_shutdown"),
        pytest.param("aiohttp.web", "Server.shutdown", SERVER, id="shutdown"),
        pytest.param("aiohttp.web", "BaseRequest.writer", WRITER, id="writer"),
        pytest.param("prometheus_client.values", "ValueClass", VALUES, id="ValueClass"),
        pytest.param("prometheus_client.mmap_dict", "MmapedDict.read_value", MMAP, id="read_value"),
        pytest.param("prometheus_client.mmap_dict", "MmapedDict.write_value", MMAP, id="write_value"),
        pytest.param("prometheus_client.mmap_dict", "MmapedDict.close", MMAP, id="close"),
        pytest.param("prometheus_client.mmap_dict", "mmap_key", MMAP, id="mmap_key"),
    ],
)
def test_what_we_use_of_a_library_is_there(module: str, name: str, advice: str) -> None:
    """A new version may drop what its documentation never promised; this says what to do then."""
    try:
        found: object = import_module(module)
    except ImportError:
        pytest.fail(advice)
    for part in name.split("."):
        if not hasattr(found, part):
            pytest.fail(advice)
        found = getattr(found, part)


async def test_a_server_of_aiohttp_has_the_handler_and_the_request_factory_of_its_application() -> None:
    """The listener wraps the handler, and makes its own connections with both."""
    web = import_module("aiohttp.web")
    server = web.Server(print, request_factory=str)
    found = getattr(server, "request_handler", None), getattr(server, "request_factory", None)
    assert found == (print, str), SERVER


async def test_a_connection_to_redis_has_a_stream_once_it_is_open(redis_url: str) -> None:
    """The pool asks the stream; None would mean a closed connection, and an end would not be noticed."""
    pool = RedisPool.from_url(redis_url)
    connection = pool.make_connection()  # type: ignore[no-untyped-call]
    assert stream_of(connection) is None, CONNECTION
    await connection.connect()
    assert isinstance(stream_of(connection), asyncio.StreamReader), CONNECTION
    await connection.disconnect()


def test_a_metric_keeps_its_numbers_where_we_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed by position becomes the key of the number in its file."""
    values = import_module("prometheus_client.values")
    made: list[tuple[object, ...]] = []

    class Value:
        def __init__(self, *arguments: object, **named: object) -> None:
            made.append((*arguments, named))

        def set(self, value: float, timestamp: float | None = None) -> None:
            """A gauge begins at 0 in some versions."""

    monkeypatch.setattr(values, "ValueClass", Value)
    registry = CollectorRegistry()
    Counter("beacons", "Beacons", ["site"], registry=registry).labels("portal")
    Gauge("queue", "Queue", registry=registry, multiprocess_mode="livesum")
    assert made == [
        ("counter", "beacons", "beacons_total", ("site",), ("portal",), "Beacons", {}),
        ("gauge", "queue", "queue", (), (), "Queue", {"multiprocess_mode": "livesum"}),
    ], VALUES


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.00051, 0.3, 5.0, 5.1, float("inf")])
def test_a_quick_histogram_counts_as_the_one_of_the_library_does(seconds: float) -> None:
    """A time that equals a bound is within it; one beyond the last bound is in the bucket without one."""
    samples = []
    for kind in (Histogram, QuickHistogram):
        registry = CollectorRegistry()
        histogram = kind("seconds", "Seconds", ["route"], registry=registry, buckets=(0.0005, 0.5, 5))
        histogram.labels("/seen").observe(seconds)
        [metric] = registry.collect()
        samples.append([(each.name, each.labels, each.value) for each in metric.samples if "created" not in each.name])
    assert samples[0] == samples[1], NUMBERS


def test_the_number_behind_a_counter_is_what_the_counter_shows() -> None:
    """Adding to it directly is counting."""
    registry = CollectorRegistry()
    value_of(Counter("beacons", "Beacons", ["site"], registry=registry).labels("portal")).inc(3)
    assert registry.get_sample_value("beacons_total", {"site": "portal"}) == 3, NUMBERS


def test_a_number_in_a_file_is_read_by_the_collector(tmp_path: Path) -> None:
    """The collector is public and the format of its files is not: writer and reader must be of one version."""
    module = import_module("prometheus_client.mmap_dict")
    file = module.MmapedDict(str(tmp_path / "counter_0.db"))
    file.write_value(module.mmap_key("beacons", "beacons_total", ["site"], ["portal"], "Beacons"), 7.0, 0.0)
    file.close()
    registry = CollectorRegistry()
    registry.register(MultiProcessCollector(None, path=str(tmp_path)))  # type: ignore[no-untyped-call]
    assert registry.get_sample_value("beacons_total", {"site": "portal"}) == 7, MMAP


def test_every_such_library_has_an_upper_bound() -> None:
    """A version whose source has not been read must not be installed unasked."""
    dependencies = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    bounded = {line.partition(">")[0] for line in dependencies if "<" in line}
    assert {"aiohttp", "prometheus-client", "redis"} <= bounded


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for file in PACKAGE.rglob("*.py"):
        if file not in COMPAT:
            yield file, ast.parse(file.read_text("utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names(tree: ast.AST) -> Iterator[str]:
    """The private names that a piece of our code defines or uses, of itself or of anything else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_private(node.name):
            yield node.name


def names_of(library_class: type) -> set[str]:
    """The private names of a library's class: those it has, and those that its methods set on themselves."""
    source = "".join(inspect.getsource(base) for base in library_class.__mro__ if is_of_a_library(base))
    return {name for name in (*dir(library_class), *re.findall(r"self\.(_\w+)", source)) if is_private(name)}


def is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES


def test_no_other_file_imports_what_is_not_documented() -> None:
    """What a new version may break is found in one place."""
    found = []
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                private = name.partition(".")[0] in LIBRARIES and any(map(is_private, name.split(".")))
                if private or UNDOCUMENTED.match(name):
                    found.append(f"{file.relative_to(PACKAGE)}: {name}")
    assert found == []


def test_no_other_file_uses_private_attributes_of_a_library() -> None:
    """Every private name in the package is the package's own."""
    own, used = set(OF_NAMED_TUPLES), set[str]()
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                (own if is_own else used).add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own.add(node.name)
    assert used - own == set()


def test_no_class_of_ours_meets_a_private_name_of_the_library_class_that_it_extends() -> None:
    """A name in both classes belongs to the library, is used or broken here, and no linter sees it through `self`."""
    met, extended = [], set()
    for file, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            ours = getattr(module_of(file), node.name, None)
            bases = [base for base in inspect.getmro(ours)[1:] if is_of_a_library(base)] if ours else []
            if bases:
                extended.add(node.name)
                met += [f"{node.name}.{name}" for name in set(private_names(node)) & names_of(bases[0])]
    assert met == []
    assert {"Reply", "Listener", "_Connections", "_Connection", "_Collector", "RedisPool"} <= extended


def module_of(file: Path) -> ModuleType:
    return import_module(".".join(("footfall", *file.relative_to(PACKAGE).with_suffix("").parts)))
