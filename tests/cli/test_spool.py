"""`footfall spool`: what waits in a folder, and the folder of a lost host, which is whole or is not taken over."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from footfall.cli.spool import adopt_folder, list_folder
from footfall.errors import Stop
from footfall.settings.settings import Settings
from footfall.stores.spool_folder import spool_folder
from footfall.stores.spool_store import Spool, open_spool
from tests.support.footfall import FakeClock, settings_for
from tests.support.former_spool import former_files
from tests.support.process import run
from tests.support.storage import LOG, OTHER_LOG, TODAY, Stores, batch, packed

SPOOL_BYTES = 1 << 20
MANY = [batch(seq, range(seq % 5 * 40)) for seq in range(1, 31)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A host of one's own; the command asks no store."""
    return settings_for("unix:///nowhere", "postgresql:///nowhere", tmp_path / "here")


@pytest.fixture
async def brought(tmp_path: Path) -> Path:
    """A folder as it came from the other host: a file of this version, and the two of a former one."""
    folder = tmp_path / "brought"
    async with open_spool(folder, "other", SPOOL_BYTES) as spool:
        await spool.write(MANY)
    for ending, content in former_files(tmp_path, [batch(1, [9], log=OTHER_LOG)]).items():
        (folder / f"former{ending}").write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if "spool" in path.name}


async def adopted(settings: Settings) -> Spool:
    """Let a worker of this host take over what is in its folder."""
    clock = FakeClock()
    async with open_spool(settings.data_dir / "spool", "mine", SPOOL_BYTES, clock.monotonic) as spool:
        await spool.adopt()
        clock.advance(60)
        await spool.adopt()
        assert await spool.read(LOG, 0, 99) == MANY
        assert await spool.read(OTHER_LOG, 0, 99) == [batch(1, [9], log=OTHER_LOG)]
        return spool


async def test_a_whole_folder_is_taken_over(
    settings: Settings, brought: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stays as it is, until an operator has seen the batches arrive."""
    before = {path.name: path.read_bytes() for path in brought.iterdir()}
    adopt_folder(settings, brought, force=False)
    assert "other.spool: whole, 30 batches" in capsys.readouterr().out
    assert names(settings.data_dir / "spool") == {"other.spool", "former.spool", "former.spool-wal"}
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == before
    spool = await adopted(settings)
    assert spool.take_damaged_files() == []


async def test_a_file_of_this_host_is_never_replaced(
    settings: Settings, brought: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handed over twice, the copy would replace the file that a worker is about to read."""
    adopt_folder(settings, brought, force=False)
    with pytest.raises(Stop, match="nothing was taken over"):
        adopt_folder(settings, brought, force=False)
    assert "other.spool: has the name of a file in this host's spool" in capsys.readouterr().out
    ours = settings.data_dir / "spool" / "other.spool"
    ours.write_bytes(b"ours")
    adopt_folder(settings, brought, force=True)
    assert ours.read_bytes() == b"ours"


@pytest.mark.parametrize("lacks", ["the log", "the file", "the end", "a byte"])
async def test_of_a_folder_that_is_not_whole_nothing_is_taken_over(
    settings: Settings, brought: Path, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """478 of 2,247 acked views were missing afterwards, silently."""
    other, log = brought / "other.spool", brought / "former.spool-wal"
    content = other.read_bytes()
    if lacks == "the log":
        log.unlink()
    elif lacks == "the file":
        (brought / "former.spool").unlink()
    elif lacks == "the end":
        other.write_bytes(content[: len(content) // 2])
    else:
        at = content.rindex(packed([150]))  # the last visitor of a batch
        other.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(Stop, match="1 of 2 files are not whole"):
        adopt_folder(settings, brought, force=False)
    assert "whole" in capsys.readouterr().out
    assert names(settings.data_dir / "spool") == set()
    adopt_folder(settings, brought, force=True)
    assert "other.spool" in names(settings.data_dir / "spool")


async def test_a_folder_with_nothing_to_take_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """A wrong path must not look like an empty spool."""
    (tmp_path / "empty").mkdir()
    settings.data_dir.joinpath("spool").mkdir(parents=True, exist_ok=True)
    for folder, sentence in {
        tmp_path / "nowhere": "is no folder",
        tmp_path / "empty": "holds no spool file",
        settings.data_dir: f"is a data folder; its spool is {settings.data_dir / 'spool'}",
        settings.data_dir / "spool": "is the spool of this host",
    }.items():
        with pytest.raises(Stop, match=re.escape(sentence)):
            adopt_folder(settings, folder, force=False)


async def test_a_command_that_was_killed_leaves_nothing_for_ever(settings: Settings, brought: Path) -> None:
    """In containers all commands have the same few process ids: one that was killed stood in the way of all others."""
    spool = settings.data_dir / "spool"
    with spool_folder(brought, spool) as first:
        (running,) = spool.glob("incoming-*")
        for left in (spool / f"incoming-{os.getpid()}", spool / "incoming-1"):
            (left / "again").mkdir(parents=True)
            (left / "other.spool").write_bytes(bytes(1000))
        with spool_folder(brought, spool) as second:
            assert len(list(spool.glob("incoming-*"))) == 2
            assert first.look() == second.look()
        assert list(spool.glob("incoming-*")) == [running]
    assert list(spool.iterdir()) == []


async def listed(settings: Settings, folder: Path | None, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """List a folder; return the exit status and what an operator reads."""
    try:
        await list_folder(settings, folder, 0)
    except Stop as stop:
        return stop.status, capsys.readouterr().out + str(stop)
    return 0, capsys.readouterr().out


async def test_a_list_says_what_postgres_lacks(
    stores: Stores, brought: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only with this may an operator delete the last copy of answered beacons, or know that it is not the last."""
    settings = settings_for(stores.redis_url, stores.postgres_url, tmp_path / "here")
    before = {path.name: path.read_bytes() for path in brought.iterdir()}
    status, text = await listed(settings, brought, capsys)
    assert status == 1
    assert (
        f"other.spool: whole, 30 batches, 0 beacons; PostgreSQL lacks 30 batches, 30 views\n  {TODAY}, portal" in text
    )
    assert "former.spool: whole, 1 batches" in text
    assert f"PostgreSQL lacks 31 batches, 31 views. `footfall spool adopt {brought}` hands them over." in text
    worker = await stores.worker()
    await worker.opener.open(worker.site)
    for one in MANY[:10]:
        await worker.count(one)
    await worker.roll_up_all_days()
    status, text = await listed(settings, brought, capsys)
    assert (status, "other.spool: whole, 30 batches, 0 beacons; PostgreSQL lacks 20 batches, 20 views" in text) == (
        1,
        True,
    )
    for one in [*MANY[10:], batch(1, [9], log=OTHER_LOG)]:
        await worker.count(one)
    waiting = asyncio.create_task(list_folder(settings, brought, 30))
    await asyncio.sleep(0)
    await worker.roll_up_all_days()
    await waiting
    assert f"PostgreSQL has all of it: {brought} may be removed." in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == before


async def test_the_list_of_this_host_leaves_its_workers_alone(environ: dict[str, str], brought: Path) -> None:
    """It is typed in an outage, on a host that counts: another process, since a process' locks do not bind itself."""
    folder = Path(environ["FOOTFALL_DATA_DIR"]) / "spool"
    async with open_spool(folder, "mine", SPOOL_BYTES) as spool:
        await spool.write(MANY[:1])
        status, text = await run("spool", "list", environ=environ)
        assert (status, text) == (0, "mine.spool: belongs to a worker that runs; `footfall status` shows its spool\n")
        (brought / "other.spool").rename(folder / "other.spool")
        (folder / "once.damaged").touch()
        status, text = await run("spool", "list", str(folder), environ=environ)
        assert (status, "PostgreSQL lacks 30 batches, 30 views. This host's workers send them." in text) == (1, True)
        assert "once.damaged: was damaged, and kept" in text
        await spool.write(MANY[1:2])
        assert await spool.read(LOG, 0, 99) == MANY[:2]
        await spool.adopt()
        assert "other.spool" not in names(folder)
        assert await spool.read(LOG, 0, 99) == MANY


async def test_a_folder_that_is_not_there_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """A wrong path must not look like a spool that is empty."""
    with pytest.raises(Stop, match="nothing is no folder"):
        await list_folder(settings, tmp_path / "nothing", 0)


async def test_a_list_does_not_call_a_damaged_folder_saved(
    stores: Stores, brought: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What could not be read may be beacons that were answered 202."""
    settings = settings_for(stores.redis_url, stores.postgres_url, tmp_path / "here")
    other = brought / "other.spool"
    other.write_bytes(other.read_bytes()[: len(other.read_bytes()) // 2])
    (brought / "former.spool").unlink()
    (brought / "former.spool-wal").unlink()
    worker = await stores.worker()
    await worker.opener.open(worker.site)
    for one in MANY:
        await worker.count(one)
    await worker.roll_up_all_days()
    status, text = await listed(settings, brought, capsys)
    assert (status, "1 of 1 files are not whole, and may have held more" in text) == (1, True)
    assert "may be removed" not in text


async def test_a_list_without_postgres_still_shows_the_folder(
    settings: Settings, brought: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never says that the folder may be removed."""
    status, text = await listed(settings, brought, capsys)
    assert (status, "other.spool: whole, 30 batches, 0 beacons\n" in text) == (1, True)
    assert "PostgreSQL does not say what it has of this" in text


async def test_a_site_that_is_not_configured_is_named(
    stores: Stores, brought: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its batches would stay in the spool for ever, and the folder would seem to be handed over."""
    library = {"library": {"name": "Library", "hosts": ["library.example.vn"]}}
    settings = settings_for(stores.redis_url, stores.postgres_url, tmp_path / "here", sites=library)
    adopt_folder(settings, brought, force=False)
    assert "Not configured here: portal." in capsys.readouterr().out
    _, text = await listed(settings, brought, capsys)
    assert "Not configured here: portal." in text
