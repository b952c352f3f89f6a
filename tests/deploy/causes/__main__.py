"""Each alert, fired by causing its condition: python -m tests.deploy.causes [FootfallDown ...]

A Footfall with stores of its own meets the condition; Debian's Prometheus and Alertmanager read the files of `deploy/`,
with all their times divided. What Alertmanager calls for must be the alert of the cause, and nothing else;
where the story ends its condition, Alertmanager must call it off.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable

from tests.deploy.causes.causes import STORIES
from tests.deploy.causes.story import going_on
from tests.deploy.causes.world import world

NEEDED = ("faketime", "prometheus", "prometheus-alertmanager")
HEARD_MAX_S = 240
"""Longer than the longest `for` of the rules, an hour, is here, after a step that is taken once a minute."""
THEN_S = 20 * 60
"""In the time of the rules: long enough for alerts that follow later, such as those after 15 minutes."""
SLOWEST = 10
"""A story of a slower pace waits no longer than one of this pace."""
OVER_MAX_S = 200
"""Long enough for an hour in which nothing more happened, and for a step that is taken once a minute."""


async def play(alert: str) -> str:
    """Cause the condition of an alert; return what was wrong with the alerts that were called for, or ""."""
    story = STORIES[alert]
    async with world(story.environ, story.faster, has_own_program=story.has_own_program) as here:
        assert here.heard == [], f"before any cause: {here.heard}"
        async with going_on(story.cause, here):
            await _until(lambda: bool(here.heard), HEARD_MAX_S)
            await asyncio.sleep(THEN_S / max(story.faster, SLOWEST))
        heard = list(dict.fromkeys(here.heard))
        if heard != [alert]:
            return f"heard {', '.join(heard) or 'nothing'}"
        if story.end is not None:
            await story.end(here)
            if not await _until(lambda: alert in here.over, OVER_MAX_S):
                return "not heard to be over"
    return ""


async def _until(fact: Callable[[], bool], max_s: int) -> bool:
    """Look every second until the fact holds, so many times at most; return whether it does."""
    for _ in range(max_s):
        if fact():
            return True
        await asyncio.sleep(1)
    return fact()


async def main(names: list[str]) -> int:
    """Play the stories one after the other; return the number of those in which something was wrong."""
    wrong = 0
    for alert in names:
        began = time.monotonic()
        trouble = await play(alert)
        wrong += bool(trouble)
        ends = ", and that it was over" if STORIES[alert].end else ""
        outcome = f"FAIL {alert}: {trouble}" if trouble else f"ok   {alert}: heard alone{ends}"
        sys.stdout.write(f"{outcome} ({time.monotonic() - began:.0f} s)\n")
        sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        sys.exit(f"Missing: {', '.join(missing)}. apt install faketime prometheus prometheus-alertmanager")
    sys.exit(min(asyncio.run(main(sys.argv[1:] or list(STORIES))), 1))
