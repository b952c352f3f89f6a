"""Whether a trusted proxy hides its clients: one that sends no forwarding header makes them one place."""

import logging

from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

FROM_PROXY_EVERY_S = 3600.0
MENDED_AFTER_S = 600.0
"""The proxy counts as mended after this time without such a beacon, as soon as a beacon with an address comes."""


class ProxyWatch:
    """Remembers since when beacons carry a trusted proxy's own address; logs it hourly, and once when it is over."""

    def __init__(self, header: str, metrics: Metrics, *, is_demo: bool) -> None:
        self.since_s: float | None = None
        """Seconds since the epoch; None while proxies name their clients."""
        self._last_s = 0.0
        self._header = header
        self._metrics = metrics
        self._is_demo = is_demo
        self._throttle = LogThrottle(FROM_PROXY_EVERY_S)

    def saw_proxy(self, at_s: float) -> None:
        """Record a beacon that carries a proxy's own address."""
        self._metrics.from_proxy.inc()
        if self._is_demo:  # it is opened on its own machine
            return
        self._last_s = at_s
        if self.since_s is None:
            self.since_s = at_s
        if times := self._throttle.happened():
            logger.warning(
                "Beacons carry a trusted proxy's own address, so its visitors share one place and limit: does it set"
                " %s? times=%d",
                self._header,
                times,
            )

    def saw_client(self, at_s: float) -> None:
        """Record a beacon with a client's address; call it only while `since_s` is set."""
        if self.since_s is None or at_s - self._last_s < MENDED_AFTER_S:
            return
        logger.info("Trusted proxies name their clients again. after_s=%.0f", at_s - self.since_s)
        self.since_s, self._throttle = None, LogThrottle(FROM_PROXY_EVERY_S)

    @property
    def problem(self) -> str:
        """Return the sentence for `/readyz`."""
        return f"a trusted proxy sends no {self._header} that can be read: its visitors share one place and one limit"
