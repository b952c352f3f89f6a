"""F12 and F16: days pass while Postgres is away, and clocks are set."""

from datetime import date, datetime, timedelta

from footfall.model.periods import local_day
from footfall.model.retention import Retention
from footfall.stores.redis_store import day_key
from tests.chaos.inside import counting_lines, send, worker
from tests.chaos.relay import answer_instead, open_relay
from tests.chaos.stage import Stage, socket_of
from tests.chaos.traffic import SITES
from tests.support.footfall import VIETNAM, FakeClock, Footfall

FRIDAY = datetime(2054, 11, 27, 20, tzinfo=VIETNAM)
STEP_S = 3600
LINES_MAX = 100
DAY = timedelta(days=1)


async def outlast_postgres(stage: Stage) -> None:
    """Postgres is away from Friday to Tuesday: nothing dips, expires or is lost, and late beacons still count."""
    clock = FakeClock(FRIDAY)
    async with (
        open_relay(socket_of(stage.valkey)) as relay,
        worker(stage, clock, "one") as one,
        worker(stage, clock, "two", redis_url=f"redis://127.0.0.1:{relay.port}/0") as two,
    ):
        await _send_some(stage, one, 40)
        relay.requests = answer_instead(b"LOADING")
        await _send_some(stage, two, 20)
        stage.expect(stage.ledger.statuses[202] == 20, f"nothing was spooled: {dict(stage.ledger.statuses)}")
        await one.services.copy()
        await stage.postgres.stop()
        with counting_lines() as lines:
            await _live_through(stage, one, two, clock)
        stage.expect(len(lines) < LINES_MAX, f"{len(lines)} lines were logged, such as: {lines[-1:]}")

        await stage.postgres.start()
        await stage.connect_postgres()
        for _ in range(2):
            await one.services.copy()
        await _check_expiry(stage, one, clock)
        await _forget_in_redis(stage, FRIDAY.date())
        relay.repair()
        await _catch_up(two)
        await _catch_up(one)


async def set_clocks(stage: Stage) -> None:
    """Set the clock by an hour and over midnight, forth and back: each beacon counts on its day of receipt."""
    clock = FakeClock(FRIDAY)
    async with worker(stage, clock, "one") as one:
        for _ in range(3):
            for hours in stage.chance.sample((1, -1, 4, -4, 5, -5, 30, 2), 8):
                clock.set(datetime.fromtimestamp(clock() + hours * 3600, VIETNAM))
                answers = [await send(stage, one, site) for site in SITES for _ in range(5)]
                today = local_day(clock(), VIETNAM).isoformat()
                stage.expect(
                    all(answer.get("day_of") == today for answer in answers),
                    f"an answer is not of {today}: {answers[-1]}",
                )
                await one.services.copy()
        await _catch_up(one)


async def _live_through(stage: Stage, one: Footfall, two: Footfall, clock: FakeClock) -> None:
    """Pass three midnights and the turn of the week, hour by hour."""
    totals = dict.fromkeys(SITES, 0)
    while local_day(clock(), VIETNAM) < FRIDAY.date() + 4 * DAY:
        for site in SITES:
            answer = await send(stage, one, site)
            total = answer.get("total")
            stage.expect(isinstance(total, int), f"a beacon was not counted: {answer}")
            if isinstance(total, int):
                stage.expect(total >= totals[site], f"the total of {site} fell from {totals[site]} to {total}")
                totals[site] = total
        for footfall in (one, two):
            await footfall.services.reconciler.quick_step()
            await footfall.services.copy()
        clock.advance(STEP_S)
    for site in SITES:
        for day in await _days(stage, site):
            left_s = await stage.stores.redis.ttl(day_key(site, day, "visitors"))
            stage.expect(left_s == -1, f"{site} {day} expires although Postgres never had it")


async def _check_expiry(stage: Stage, one: Footfall, clock: FakeClock) -> None:
    """Check that every day is equal in both stores, and that only closed days expire."""
    for site in SITES:
        through = Retention.at(clock(), one.services.settings.sites[site].zone).closed_through
        live, saved = await stage.stores.in_redis(site), await stage.stores.in_postgres(site)
        for day in await _days(stage, site):
            stage.expect(live[day].views == saved[day].views, f"{site} {day} is not equal in both stores")
            expires = await stage.stores.redis.ttl(day_key(site, day, "visitors")) > 0
            stage.expect(expires == (day <= through), f"{site} {day} expires: {expires}, closed through {through}")


async def _forget_in_redis(stage: Stage, day: date) -> None:
    """Let a day expire now."""
    for site in SITES:
        await stage.stores.redis.delete(day_key(site, day, "visitors"), day_key(site, day, "logs"))


async def _days(stage: Stage, site: str) -> list[date]:
    return list(await stage.stores.in_redis(site))


async def _send_some(stage: Stage, footfall: Footfall, each: int) -> None:
    for turn in range(each):
        await send(stage, footfall, list(SITES)[turn % 2])


async def _catch_up(footfall: Footfall) -> None:
    """Probe, send what waits, and roll it up."""
    await footfall.services.reconciler.quick_step()
    for _ in range(2):
        await footfall.services.recorder.settle()
        await footfall.services.copy()
