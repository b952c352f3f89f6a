"""The metrics of a worker's own process, and the limits that it raises."""

import logging
import resource
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from footfall.metrics.metrics import Metrics
from footfall.metrics.process import ProcessMetrics

RAISE = """
import resource
from footfall.http.server import connections_max
from footfall.process.worker import allow_more_files
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000))
allow_more_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections_max())
"""


async def test_a_process_without_a_free_file_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Much else fails at the same time: a traceback every five seconds would bury that."""
    vitals = ProcessMetrics(Metrics(CollectorRegistry()))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with caplog.at_level(logging.INFO):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, allowed[1]))
        try:
            await vitals.measure()
            await vitals.measure()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
        await vitals.measure()
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)


def test_a_worker_takes_the_files_that_it_is_allowed() -> None:
    """A shell allows 1,024 files, which a few hundred visible pages use up; some stay free for the stores."""
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["2000", "1744"]
