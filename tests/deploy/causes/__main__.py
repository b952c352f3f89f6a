"""Each alert, fired by causing its condition: python -m tests.deploy.causes [FootfallDown ...]

A Footfall with stores of its own meets the condition; Debian's Prometheus and Alertmanager read the files of `deploy/`,
with all their times divided by `FASTER`. What Alertmanager calls for must be the alert of the cause, and nothing else.
"""

import asyncio
import shutil
import sys

from tests.deploy.causes.causes import STORIES, going_on
from tests.deploy.causes.world import world

NEEDED = ("faketime", "prometheus", "prometheus-alertmanager")
HEARD_MAX_S = 150
THEN_S = 40
"""Long enough for alerts that follow later, such as those after 15 minutes: 30 seconds here."""


async def play(alert: str) -> list[str]:
    """Cause the condition of an alert; return the alerts that were called for."""
    story = STORIES[alert]
    async with world(story.environ) as here:
        assert here.heard == [], f"before any cause: {here.heard}"
        async with going_on(story.cause, here):
            for _ in range(HEARD_MAX_S):
                if here.heard:
                    break
                await asyncio.sleep(1)
            await asyncio.sleep(THEN_S)
        return list(dict.fromkeys(here.heard))


async def main(names: list[str]) -> int:
    """Play the stories one after the other; return the number of those that were heard as something else."""
    wrong = 0
    for alert in names:
        heard = await play(alert)
        wrong += heard != [alert]
        sys.stdout.write(f"{'ok  ' if heard == [alert] else 'FAIL'} {alert}: heard {', '.join(heard) or 'nothing'}\n")
        sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        sys.exit(f"Missing: {', '.join(missing)}. apt install faketime prometheus prometheus-alertmanager")
    sys.exit(min(asyncio.run(main(sys.argv[1:] or list(STORIES))), 1))
