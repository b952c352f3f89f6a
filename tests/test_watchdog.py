"""The suite itself: it fails where it would hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import PROJECT

HANGS = """
import threading

def test_that_leaves_a_thread_behind():
    threading.Thread(target=threading.Event().wait, name="forgotten").start()
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_suite_that_hangs_is_ended_with_a_sentence(tmp_path: Path, workers: str) -> None:
    """Started under nohup it hung for ever: a thread waited for a process that ignored what should have ended it."""
    (tmp_path / "conftest.py").write_text("from tests.support.watchdog import pytest_addoption, pytest_configure\n")
    (tmp_path / "test_it.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nsilence_s = 4\n")
    environ = os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'service'}"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", workers, str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode != 0
    assert "The tests hang: nothing has ended for 4 s after " in run.stderr
    assert "Each thread stands here" in run.stderr
