"""The system's figures of this process: CPU time, memory, open files; on Linux and macOS."""

import logging
import resource

import psutil

from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

MEASURE_EVERY_S = 5.0


class ProcessMetrics:
    """Measures this process into its metrics; Prometheus shows the sum over the workers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._process = psutil.Process()
        self._cpu_s = 0.0
        self._failures = LogThrottle()
        metrics.process_start.set(self._process.create_time())
        metrics.newest_start.set(self._process.create_time())
        metrics.process_max_fds.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    async def measure(self) -> None:
        """Update the metrics; log at most once a minute where the system cannot answer, as without a free file."""
        try:
            self._measure()
        except (OSError, psutil.Error) as error:
            if times := self._failures.happened():
                logger.warning("The system's figures of this process cannot be read. times=%d error=%s", times, error)

    def _measure(self) -> None:
        with self._process.oneshot():
            times = self._process.cpu_times()
            self._metrics.process_memory.set(self._process.memory_info().rss)
        self._metrics.process_fds.set(self._process.num_fds())
        cpu_s = times.user + times.system
        self._metrics.process_cpu.inc(max(0.0, cpu_s - self._cpu_s))
        self._cpu_s = cpu_s
