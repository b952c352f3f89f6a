"""Addresses that are free, in use, about to be free, left behind, or not a socket of ours."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from footfall.errors import Stop
from footfall.process.sockets import listening, url_of


def taken_port() -> tuple[socket.socket, str]:
    """Return a listening socket, and its address as a setting."""
    other = socket.create_server(("127.0.0.1", 0))
    return other, f"127.0.0.1:{other.getsockname()[1]}"


async def test_a_taken_port_is_one_sentence_with_what_to_do() -> None:
    """A taken port is the most common mistake of a first start."""
    other, setting = taken_port()
    with other, pytest.raises(Stop, match=f"cannot listen on {setting}: .*in use.*FOOTFALL_LISTEN") as refusal:
        async with listening(setting, "FOOTFALL_LISTEN"):
            pytest.fail("two on one port")
    assert refusal.value.status == 2


async def test_a_port_that_is_being_let_go_is_waited_for() -> None:
    """After kill -9 the next start comes while the last worker still answers the requests that it has read."""
    other, setting = taken_port()
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(stack.enter_async_context(listening(setting, "FOOTFALL_LISTEN")))
        done, _ = await asyncio.wait([opening], timeout=0.2)
        assert not done
        other.close()
        assert url_of(await opening) == f"http://{setting}"


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        pytest.param("192.0.2.1:8080", "assign requested address", id="an address of another host"),
        pytest.param("no-such-host.invalid:8080", "", id="a name without an address"),
        pytest.param("unix:/no/such/folder/footfall.sock", "No such file", id="a folder that is not there"),
        pytest.param("unix:/tmp/" + "x" * 120, "too long", id="a path that no socket can have"),
    ],
)
async def test_an_address_that_cannot_be_used_is_a_sentence(setting: str, why: str) -> None:
    """No text in this setting ends in a traceback."""
    with pytest.raises(Stop, match=f"cannot listen on {setting[:20]}.*{why}.*set FOOTFALL_OPS_LISTEN"):
        async with listening(setting, "FOOTFALL_OPS_LISTEN"):
            pytest.fail("it listens")


async def test_a_unix_socket_is_open_to_its_group_and_removed_at_the_end(tmp_path: Path) -> None:
    """The web server belongs to the group; another local user could forge the header that a proxy sends."""
    path = tmp_path / "footfall.sock"
    async with listening(f"unix:{path}", "FOOTFALL_LISTEN") as listener:
        assert path.stat().st_mode & 0o777 == 0o660
        assert url_of(listener) == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    """A killed process cannot remove its socket."""
    path = tmp_path / "footfall.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    async with listening(f"unix:{path}", "FOOTFALL_LISTEN"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_a_socket_on_which_somebody_answers_is_left_alone(tmp_path: Path) -> None:
    """Replacing the socket would cut a running service off from its proxy, without a sign of the cause."""
    path = tmp_path / "footfall.sock"
    async with listening(f"unix:{path}", "FOOTFALL_LISTEN"):
        with pytest.raises(Stop, match="in use"):
            async with listening(f"unix:{path}", "FOOTFALL_LISTEN"):
                pytest.fail("two on one socket")
        assert path.is_socket()


async def test_a_file_in_the_place_of_a_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path must not delete a file."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(Stop, match="something else than a socket"):
        async with listening(f"unix:{path}", "FOOTFALL_LISTEN"):
            pytest.fail("it listens")
    assert path.read_text() == "mine"


async def test_a_later_one_s_socket_is_not_removed(tmp_path: Path) -> None:
    """Two Footfalls may overlap for a moment; the first one's end must not remove the second one's socket."""
    path = tmp_path / "footfall.sock"
    async with listening(f"unix:{path}", "FOOTFALL_LISTEN"):
        path.rename(tmp_path / "moved.sock")
        with socket.socket(socket.AF_UNIX) as later:
            later.bind(str(path))
    assert path.exists()
