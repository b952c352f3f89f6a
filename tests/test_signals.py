"""What a child process ignores."""

import signal
import subprocess
from pathlib import Path

import pytest

from footfall.embedded.launch import Launch, choose_launch
from footfall.signals import default_signals
from tests.support.ordinary_account import rights

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")


def ignores_hangups(pid: int) -> bool:
    """Return whether a process ignores SIGHUP."""
    return bool(int(rights(pid)["SigIgn"], 16) >> (signal.SIGHUP - 1) & 1)


def test_a_child_under_nohup_has_its_signals_reset(hangups_ignored: None) -> None:
    """An ignored signal is inherited; here it stays ignored."""
    with subprocess.Popen(["sleep", "60"]) as inherits:
        assert ignores_hangups(inherits.pid)
        inherits.kill()
    with default_signals():
        child = subprocess.Popen(["sleep", "60"])
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.raise_signal(signal.SIGHUP)
    with child:
        assert not ignores_hangups(child.pid)
        child.kill()


@pytest.mark.parametrize("launch", [Launch(), choose_launch(None, signal.SIGTERM)], ids=["plain", "setpriv"])
def test_an_embedded_server_has_its_signals_reset(hangups_ignored: None, launch: Launch, tmp_path: Path) -> None:
    """Valkey and PostgreSQL decide for themselves what a hangup does."""
    with launch.popen(["sh", "-c", "kill -HUP $$; sleep 60"], tmp_path / "log") as child:
        assert child.wait(30) == -signal.SIGHUP
