"""Ends a run of tests in which nothing moves any more: a thread that waits for ever outlives its test's timeout."""

import faulthandler
import os
import sys
import threading

import pytest

SILENCE_S = 700
"""Longer than the longest timeout of a test."""


class Watchdog:
    """Watches over the progress of a run, until its process has ended."""

    def __init__(self, config: pytest.Config, silence_s: float) -> None:
        self._config = config
        self._silence_s = silence_s
        self._moved = threading.Event()
        self._last = "the start"
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a part of a test has ended."""
        self._last = report.nodeid
        self._moved.set()

    def _watch(self) -> None:
        while self._moved.wait(self._silence_s):
            self._moved.clear()
        if (capture := self._config.pluginmanager.getplugin("capturemanager")) is not None:
            capture.suspend_global_capture()
        words = (
            f"The tests hang: nothing has ended for {self._silence_s:g} s after {self._last}. Each thread stands here:"
        )
        print(f"\n{words}", file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        os._exit(pytest.ExitCode.INTERNAL_ERROR)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting `silence_s`."""
    parser.addini("silence_s", "how many seconds may pass without the end of a test", default=str(SILENCE_S))


def pytest_configure(config: pytest.Config) -> None:
    """Watch over this run."""
    config.pluginmanager.register(Watchdog(config, float(config.getini("silence_s"))), "watchdog")
