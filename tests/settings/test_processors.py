"""How many workers `auto` means in a container with a limit."""

from pathlib import Path

import pytest

from footfall.settings.processors import usable_processors

ALL = usable_processors(Path("/nowhere"), Path("/nowhere"))


@pytest.mark.parametrize(
    ("own", "files", "processors"),
    [
        pytest.param("0::/\n", {"cpu.max": "100000 100000\n"}, 1, id="version 2, seen from inside"),
        pytest.param(
            "0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1, id="a group above"
        ),
        pytest.param("0::/a\n", {"a/cpu.max": "max 100000\n"}, ALL, id="no limit"),
        pytest.param("0::/a\n", {"a/cpu.max": "6400000 100000\n"}, min(ALL, 64), id="more than there are"),
        pytest.param(
            "4:memory:/x\n3:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "25000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            1,
            id="version 1",
        ),
        pytest.param(
            "3:cpu,cpuacct:/docker/0a1b\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            1,
            id="version 1, seen from inside",
        ),
        pytest.param("3:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n"}, ALL, id="version 1 without a limit"),
        pytest.param("what no kernel writes", {"cpu.max": "nonsense"}, ALL, id="unreadable"),
    ],
)
def test_a_limit_of_the_container_is_respected(
    tmp_path: Path, own: str, files: dict[str, str], processors: int
) -> None:
    """Sixty-four workers on half a processor share it, and each of them stands still for most of every period."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert usable_processors(tmp_path / "groups", tmp_path / "own") == processors
