"""What must hold in a simulated world: after every step, and once the faults have ended."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date

from footfall.display.page_views import UNSEEN_REFRESH_AFTER_S
from footfall.errors import StoreUnavailable
from footfall.model.availability import UP
from footfall.model.counts import SPANS, Counts
from footfall.model.day_state import DayState
from footfall.model.imported import IMPORT_LOG
from footfall.model.periods import local_day, period_at, week_of
from footfall.model.retention import DAY, WEEK, Retention
from footfall.model.sums import Tally
from footfall.settings.settings import Site
from tests.simulation.durable_models import is_imported
from tests.simulation.models import DAYS, NO_DAY, SUM, SiteModel, pages_of, unpacked, visitors_of
from tests.simulation.ports import Server
from tests.simulation.simulated import NAMES, Sent, Worker, World

ROUNDS_S = (0, 10, 10, 3600, 10, 10)
"""Pauses before the rollups after the last fault; with the one of an hour every rollup looks at every day."""
CALLS_MAX = 3000


OF_ENDED_DAYS = {*SPANS, "views_month"}
"""Numbers that hold days of before today."""
OF_IMPORTED_DAYS = OF_ENDED_DAYS | {"total", "views_total", "peak_online"}
OF_TODAY = {"today", "views_today"}


def month_of(counts: Counts) -> date | None:
    """The month of the numbers, by its first day."""
    return counts.day_of and counts.day_of.replace(day=1)


def _counted(logs: Mapping[str, int]) -> int:
    """The views of a page's day without those of an import."""
    return sum(views for log_id, views in logs.items() if log_id != IMPORT_LOG)


class Promises:
    """Compares a world's ledger with its stores, and what its workers show with what they showed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._shown: dict[tuple[Worker, str, object], int] = {}
        self._before: dict[Worker, Counts] = {}
        self._only_remembered = set[tuple[Worker, str, object]]()
        self._last: dict[Worker, Counts] = {}
        self._revisions: dict[Worker, str | None] = {}
        self._numbers: dict[tuple[str, date, str], int] = {}
        self._postgres_lost_data = False
        self._total_lags = False
        self._may_estimate = False
        self._pages_lag = False

    def check(self) -> None:
        """After every step."""
        for worker in self._world.workers:
            assert not worker.errors, worker.errors
            assert all(isinstance(error, StoreUnavailable) for error in worker.rollup.failures.errors.values()), (
                worker.rollup.failures.errors
            )
            self._numbers_never_fall(worker)
        self._nothing_counts_twice()
        self._sums_are_those_of_their_logs()
        self._no_log_goes_back()
        self._nothing_acked_is_lost()
        self._what_is_said_to_be_exact_is()
        self._nothing_durable_lacks_its_page()
        self._world.imports.check(self._world.postgres.model, self._world.site.id)

    def may_estimate(self) -> None:
        """From now on a small day may have lost its set: its number is an estimate, and nothing is lost."""
        self._may_estimate = True

    def pages_lag(self) -> None:
        """From now on a page may show what Redis remembers of it, until that is forgotten, within a day."""
        self._pages_lag = True

    def redis_lost_data(self) -> None:
        """From now on a beacon of before counts only as long as its worker lives and keeps it."""
        for sent in [*self._world.ledger, *(sent for _, sent in self._world.neighbours_ledger)]:
            sent.risked = True
        self.redis_lags()
        self._numbers.clear()
        self._nothing_acked_is_lost()

    def redis_lags(self) -> None:
        """What was shown until now may be more than Redis knows: it is as high as the workers remember it."""
        for worker in self._world.workers:
            self._forget_other_days(worker)
        self._only_remembered |= self._shown.keys()

    def clocks_were_ahead(self) -> None:
        """Until the next rollup, today may be among the days that count as closed, and misses in the total."""
        self._total_lags = True

    def logs_lost(self, day: date) -> None:
        """Redis has lost the logs of a day, and not its sketch: a view that only they had comes from its worker."""
        self.redis_lost_data()
        row = self._world.postgres.model.rows.get((self._world.site.id, day))
        saved = unpacked(row.sketch or b"") if row else set[bytes]()
        for sent in self._world.ledger:
            sent.logs_lost |= sent.day == day and (sent.id not in saved or self._postgres_lost_data)

    def postgres_lost_data(self) -> None:
        """From now on nothing is promised but what Redis and the workers still hold."""
        self.may_estimate()
        self._postgres_lost_data = True
        self._numbers.clear()
        self._nothing_acked_is_lost()

    def recover(self) -> None:
        """End the faults: a few rollups of each worker must bring everything together."""
        world = self._world
        for server in (*world.redis, world.postgres, world.disk):
            server.up = True
        world.disk.model.rows_max = 10_000
        world.postgres.model.held.clear()
        world.postgres.model.refused.clear()
        while world.late:
            world.late.pop().arrive_unheard()
        for after_s in ROUNDS_S:
            world.clock.advance(after_s)
            self._no_log_goes_back()  # what expires now may come back from Postgres
            self._note_what_postgres_lost()  # or from a worker, in part
            for worker in world.workers:
                self._work(worker)
            self.check()
        self._all_is_even()
        for site in world.neighbours:
            self._neighbour_is_even(site)
        if self._pages_lag:
            world.redis[0].model.forget_pages("", world.site.id)
        world.clock.advance(UNSEEN_REFRESH_AFTER_S)
        for worker in world.workers:
            self._pages_are_shown(worker)

    def _work(self, worker: Worker) -> None:
        for name, step in (("quick", worker.reconciler.quick_step), ("step", worker.copy)):
            for _ in range(2):  # the first may find one under way
                worker.step(name, step)
                self._world.loop.settle()
                self._world.deliver(CALLS_MAX)
                assert not self._world.calls, "it never comes to an end"

    def _neighbour_is_even(self, site: Site) -> None:
        """Whatever became of the other sites of its group: both stores have the same, and every view once."""
        world = self._world
        held = world.redis[0].model.sites[site.id]
        rows = {day: row for (of, day), row in world.postgres.model.rows.items() if of == site.id}
        assert not held.dirty
        for day, kept in held.days.items():
            assert dict(rows[day].logs) == kept.logs, f"the logs of {site.id} on {day} differ"
        ledger = [sent for of, sent in world.neighbours_ledger if of == site]
        for day in {sent.day for sent in ledger}:
            of_day = [sent for sent in ledger if sent.day == day]
            assert not [sent for sent in of_day if sent.outcome == "waiting"], "a beacon never got its answer"
            certain = [sent for sent in of_day if sent.outcome == "ok" and not self._may_be_lost(sent)]
            possible = [sent for sent in of_day if sent.outcome != "refused"]
            views = rows[day].views if day in rows else 0
            assert len(certain) <= views <= len(possible), f"{views} views of {site.id} on {day}"

    def _may_be_lost(self, sent: Sent) -> bool:
        gone = not sent.worker.alive or sent.worker.forgot
        return (sent.risked and gone) or self._postgres_lost_data

    def _all_is_even(self) -> None:
        world = self._world
        site: SiteModel = world.redis[0].model.sites[world.site.id]
        rows = {day: row for (of, day), row in world.postgres.model.rows.items() if of == world.site.id}
        for day, kept in site.days.items():
            assert dict(rows[day].logs) == kept.logs, f"the logs of {day} differ"
            assert unpacked(rows[day].sketch or b"") == kept.visitors, f"the sketches of {day} differ"
            assert not kept.pages_dirty
            for page, logs in kept.pages.items():
                saved = world.postgres.model.pages.of_day(world.site.id, page, day)
                more = {log for log, views in logs.items() if saved.get(log, 0) < views}
                assert not more, f"Postgres lacks views of {page} on {day}"
        assert not site.dirty
        self._small_days_are_exact(site)
        self._ids_end_with_their_key(site)
        for worker in world.workers:
            assert worker.recorder.queued == worker.recorder.retained_bytes == 0
            for delivery in worker.recorder.sites.values():
                assert delivery.redis is UP, delivery.redis
                assert not delivery.tasks
                assert all(sender.is_done for sender in delivery), "a log is stuck"
        assert not [file for file in world.disk.model.files.values() if file.rows], "the disk keeps what Postgres has"
        for day in {sent.day for sent in world.ledger}:
            views, sketch = (rows[day].views, rows[day].sketch) if day in rows else (0, b"")
            self._day_is_even(day, views, unpacked(sketch or b""))
            if (kept_ids := rows[day].ids if day in rows else None) is not None:
                self._day_is_even(day, views, unpacked(kept_ids))
            for page in {sent.page for sent in world.ledger if sent.page}:
                self._page_is_even(day, page)
        self._spans_are_even(rows)

    def _spans_are_even(self, rows: Mapping[date, DayState]) -> None:
        """Months, years and weeks are those of the days, which the ledger has proved."""
        world = self._world
        period = period_at(world.clock(), world.site.zone)
        program = min((worker.program for worker in world.workers), key=lambda program: program.older)
        redis = world.redis[0].model.called_by(program)  # an older one reads no set, and mends none that is damaged
        reading = redis.record("", world.site.id, period, world.site.online_window_s).reading
        assert reading is not None
        today, week, month = period.day, period.week, period.day.replace(day=1)
        views = {day: row.views for day, row in rows.items()}
        assert reading.today_views == views.get(today, 0)
        # Redis adds up the days that it has, and it has no imported one.
        in_redis = {day: row.views for day, row in rows.items() if not is_imported(row)}
        assert reading.week_views == sum(of_day for day, of_day in in_redis.items() if week_of(day) == week)
        assert reading.total_views == sum(views.values())

        def summed(since: date, before: date) -> Tally:
            some = [row for day, row in rows.items() if since <= day < before]
            return Tally(sum(row.visitors for row in some), sum(row.views for row in some))

        assert reading.span("yesterday") == summed(today - DAY, today)
        assert reading.span("month") == summed(month, today + DAY)
        assert reading.span("last_month") == summed((month - DAY).replace(day=1), month)
        assert reading.span("year") == summed(month.replace(month=1), today + DAY)
        last_week = reading.span("last_week")
        assert last_week is not None
        assert last_week.views == summed(week - WEEK, week).views
        if self._postgres_lost_data:
            return  # an older dump may lack the week
        in_week = [day for day in rows if week_of(day) == week - WEEK]
        came = unpacked(b"".join(rows[day].sketch or b"" for day in in_week))
        # The union knows visitors of a day that Redis lost before Postgres had it.
        of_week = [sent for sent in world.ledger if week_of(sent.day) == week - WEEK]
        possible = {sent.id for sent in of_week if sent.outcome != "refused"}
        if last_week.visitors is None:
            assert any(is_imported(rows[day]) for day in in_week)
            return
        assert len(came) <= last_week.visitors <= len(came | possible)
        if not any(sent.risked for sent in world.ledger):
            assert last_week.visitors == len(came)

    def _ids_end_with_their_key(self, site: SiteModel) -> None:
        """The days of earlier weeks are closed and confirmed by now."""
        if all(worker.program.older for worker in self._world.workers):
            return
        oldest = Retention.at(self._world.clock(), self._world.site.zone).salts_from
        kept = [day for sets in (site.day_ids, site.week_ids) for day, of_day in sets.items() if of_day.ids]
        kept += [day for (_, day), row in self._world.postgres.model.rows.items() if row.ids is not None]
        assert not [day for day in kept if day < oldest], "ids outlive the key that made them"

    def _small_days_are_exact(self, site: SiteModel) -> None:
        """Unless something has happened after which a day can only be estimated."""
        today = local_day(self._world.clock(), self._world.site.zone)
        visitors, exact = site.visitors_of(today)
        if not self._may_estimate and visitors <= self._world.site.exact_up_to:
            row = self._world.postgres.model.rows.get((self._world.site.id, today), DayState.empty(today))
            assert exact, f"{today} is an estimate without need"
            assert row.exact, f"{today} is an estimate in Postgres without need"
            assert row.ids is not None

    def _what_is_said_to_be_exact_is(self) -> None:
        """A set that lacks a visitor of its sketch would make a number too small, and say that it is exact."""
        for site in [site for server in self._world.redis for site in self._sites(server)]:
            unreadable = {day for _, day in site.damaged if day > NO_DAY}
            unreadable |= {day for day in site.days if not site.is_summed(day)}  # counted again before it is read
            for day in site.days.keys() - unreadable:
                if site.visitors_of(day)[1]:
                    assert site.day_ids[day].ids >= site.days[day].visitors, f"the set of {day} lacks visitors"
            for week in site.weeks.keys() - set(map(week_of, unreadable)) if DAYS not in site.damaged else ():
                days = [kept.visitors for day, kept in site.days.items() if week_of(day) == week]
                if site.visitors_of_week(week)[1]:
                    assert site.week_ids[week].ids >= set[bytes]().union(*days), f"the set of {week} lacks visitors"
        for (_, day), row in self._world.postgres.model.rows.items():
            if row.ids is not None:
                assert row.exact
                assert len(unpacked(row.ids)) == row.visitors, f"{day} is said to be exact and is not"
                assert unpacked(row.ids) >= unpacked(row.sketch or b""), f"the ids of {day} lack visitors"

    def _day_is_even(self, day: date, views: int, ids: set[bytes]) -> None:
        ledger = [sent for sent in self._world.ledger if sent.day == day]
        assert not [sent for sent in ledger if sent.outcome == "waiting"], "a beacon never got its answer"
        certain = {sent.id for sent in ledger if sent.outcome == "ok" and not sent.excused}
        possible = {sent.id for sent in ledger if sent.outcome != "refused"}
        assert certain <= ids <= possible
        at_least = sum(sent.view for sent in ledger if sent.id in certain and not self._is_view_excused(sent))
        at_most = sum(sent.views_at_most for sent in ledger if sent.id in possible)
        assert at_least <= views <= at_most, f"{views} views of {day}, not {at_least} to {at_most}"

    def _page_is_even(self, day: date, page: str) -> None:
        """Of each page, exactly its counted views; what only Postgres had of pages is lost with it."""
        ledger = [sent for sent in self._world.ledger if (sent.day, sent.page) == (day, page)]
        views = sum(self._world.postgres.model.pages.of_day(self._world.site.id, page, day).values())
        certain = [sent for sent in ledger if sent.outcome == "ok" and not sent.excused]
        at_least = sum(not (self._is_view_excused(sent) or self._is_page_excused(sent)) for sent in certain)
        at_most = sum(sent.views_at_most for sent in ledger if sent.outcome != "refused")
        assert at_least <= views <= at_most, f"{views} views of {page} on {day}, not {at_least} to {at_most}"

    def _pages_are_shown(self, worker: Worker) -> None:
        """What a worker answers of each page is what Postgres has; it may remember more than an older dump has."""
        pages = [*NAMES, "/never"]
        asking = worker.run(worker.page_views.views(self._world.site, pages))
        while not asking.done():
            self._world.loop.settle()
            assert asking.done() or self._world.calls, "it never comes to an end"
            self._world.deliver(CALLS_MAX)
        shown_as, of_pages = self._world.journal.shown_as, self._world.journal.starting_views
        for _, page, _, logs in self._world.postgres.model.pages.by_day():
            of_pages[page] += sum(logs.values())
        of_shown = Counter[str]()
        for page, views in of_pages.items():
            of_shown[shown_as(page)] += views
        saved = {page: of_shown[shown_as(page)] for page in pages}
        shown = asking.result()
        if self._postgres_lost_data:
            assert all((shown[page] or 0) >= views for page, views in saved.items()), (shown, saved)
        else:
            assert shown == saved

    def _is_page_excused(self, sent: Sent) -> bool:
        return sent.page_lost or (sent.risked and self._postgres_lost_data)

    def _is_view_excused(self, sent: Sent) -> bool:
        gone = any(not worker.alive or worker.forgot for worker in sent.attempts)
        is_lost = sent.view_lost or (sent.risked and (gone or self._postgres_lost_data))
        if len(sent.attempts) > 1 and is_lost:
            return True  # the visitor came with every attempt, the view with one of them
        return sent.logs_lost and (gone or self._postgres_lost_data)

    def _numbers_never_fall(self, worker: Worker) -> None:
        counts = worker.counts_cache.shown(self._world.site).counts
        self._take_back_what_was_ahead(worker, counts)
        self._take_back_what_was_corrected(worker, counts)
        if counts.week is None or counts.today is None or counts.total is None:
            return
        assert counts.week >= counts.today
        assert self._total_lags or counts.total >= counts.today
        for name, period in (
            ("today", counts.day_of),
            ("views_today", counts.day_of),
            ("week", counts.week_of),
            ("total", None),
            ("yesterday", counts.day_of),
            ("last_week", counts.week_of),
            ("month", month_of(counts)),
            ("last_month", month_of(counts)),
            ("year", counts.day_of and counts.day_of.year),
            ("views_month", month_of(counts)),
            ("views_total", None),
            ("peak_online", None),
        ):
            self._never_falls(worker, counts, name, period)

        self._ended_days_stay(worker, counts)

    def _take_back_what_was_corrected(self, worker: Worker, counts: Counts) -> None:
        """An import may lower what an earlier import of the same days said: the revision changes with it.

        Where Redis has gone back to before an import, the revision does too, until the next rollup.
        """
        shown = worker.counts_cache.revisions.pop(self._world.site.id, set()) | {counts.revision}
        before, self._revisions[worker] = self._revisions.get(worker), counts.revision
        if shown == {before}:
            return
        self._last.pop(worker, None)
        for key in [key for key in self._shown if key[0] is worker and key[1] in OF_IMPORTED_DAYS]:
            del self._shown[key]

    def _take_back_what_was_ahead(self, worker: Worker, counts: Counts) -> None:
        """A worker remembers what it showed last, of one day and one week; a clock that was ahead made that another.

        What it showed before of the day that is now shown again is then as high as Redis knows it, or gets to know it
        as the workers resend. A peak stays until a clock says that it has not been yet.
        """
        before, self._before[worker] = self._before.get(worker, counts), counts
        taken_back, forgotten = set[str](), set[str]()
        if counts.day_of and before.day_of and counts.day_of < before.day_of:
            taken_back = OF_ENDED_DAYS
            forgotten = OF_TODAY | ({"week"} if counts.week_of != before.week_of else set())
        if counts.as_of and before.peak_online_at and counts.as_of < before.peak_online_at:
            taken_back = taken_back | {"peak_online"}
        for key in [key for key in self._shown if key[0] is worker]:
            if key[1] in taken_back or (key[1] in forgotten and key in self._only_remembered):
                del self._shown[key]
        self._only_remembered &= self._shown.keys()

    def _forget_other_days(self, worker: Worker) -> None:
        """A worker remembers no day but that of its last reading: a later one comes again after a clock was ahead."""
        counts = worker.counts_cache.shown(self._world.site).counts
        own = (None, counts.day_of, counts.week_of, month_of(counts), counts.day_of and counts.day_of.year)
        for key in [key for key in self._shown if key[0] is worker and key[2] not in own]:
            del self._shown[key]

    def _ended_days_stay(self, worker: Worker, counts: Counts) -> None:
        """What was today, this week, this month in one answer is at least that as yesterday, ... in the next."""
        before, self._last[worker] = self._last.get(worker), counts
        if before is None or before.day_of is None or counts.day_of is None:
            return
        month, last_month = month_of(counts), month_of(before)
        for name, ended, is_turn in (
            ("yesterday", "today", counts.day_of == before.day_of + DAY),
            ("last_week", "week", counts.week_of == week_of(before.day_of) + WEEK),
            ("last_month", "month", month is not None and (month - DAY).replace(day=1) == last_month),
        ):
            now, was = getattr(counts, name), getattr(before, ended)
            assert not is_turn or now is None or was is None or now >= was, f"{ended} was {was}, and {name} is {now}"

    def _never_falls(self, worker: Worker, counts: Counts, name: str, period: object) -> None:
        before, now = self._shown.get((worker, name, period), 0), getattr(counts, name)
        if now is None:
            return  # unknown until the next rollup; `week`, `today` and `total` are known here
        assert now >= before, f"{name} fell from {before} to {now}"
        self._shown[worker, name, period] = now

    def _nothing_counts_twice(self) -> None:
        possible, of_page = Counter[date](), Counter[tuple[str, date]]()
        for sent in self._world.ledger:
            if sent.outcome != "refused":
                possible[sent.day] += sent.views_at_most
                of_page[sent.page, sent.day] += sent.views_at_most
        for name, day, logs in self._logs():
            views = sum(brought for _, brought in self._world.imports.counted(day, logs).values())
            assert views <= possible[day], f"{name} has {views} views of {day}, and {possible[day]} were sent"
        for name, page, day, views in self._page_views():
            assert views <= of_page[page, day], f"{name} has {views} views of {page} on {day}"

    def _sums_are_those_of_their_logs(self) -> None:
        """Unless something says that an older program has changed the day; then it is counted again first."""
        for site in [site for server in self._world.redis for site in self._sites(server)]:
            for day in [day for day, kept in site.days.items() if SUM in kept.logs and site.is_summed(day)]:
                kept = site.days[day]
                assert kept.summed == kept.views, f"the sum of {day} is {kept.summed} of {kept.views} views"

    def _no_log_goes_back(self) -> None:
        """In no store, unless the store itself went back: what arrives late or twice changes nothing."""
        before, self._numbers = self._numbers, {}
        for name, day, logs in self._logs():
            for log, (number, _) in logs.items():
                assert number >= before.get((name, day, log), 0), f"log {log} of {day} went back in {name}"
                self._numbers[name, day, log] = number

    def _nothing_acked_is_lost(self) -> None:
        """Unless Redis lost it, and its worker is gone too or has dropped it for room."""
        self._note_what_postgres_lost()
        held = self._held()
        for sent in self._world.ledger:
            if sent.outcome == "ok" and not sent.excused and sent.id not in held:
                gone = any(not worker.alive or worker.forgot for worker in sent.attempts)
                sent.excused = (
                    (sent.risked or (len(sent.attempts) > 1 and sent.doubtful)) and gone
                ) or self._postgres_lost_data
                assert sent.excused, f"{sent} is nowhere"

    def _note_what_postgres_lost(self) -> None:
        """What it had alone until it went back: Redis had let the day end, and workers had dropped what is durable.

        A day that Redis has again has all of its logs, and none of its pages.
        """
        saved, in_redis = self._saved(), self._in_redis()
        for sent in self._world.ledger:
            sent.saved |= sent.id in saved
            sent.ended |= sent.saved and sent.id not in in_redis
            if self._postgres_lost_data and sent.saved and sent.id not in saved:
                sent.view_lost |= sent.id not in in_redis
                sent.page_lost |= sent.ended

    def _logs(self) -> Iterator[tuple[str, date, Mapping[str, tuple[int, int]]]]:
        """Of every copy of a day: whose it is, which day, its logs."""
        for number, server in enumerate(self._world.redis):
            for site in self._sites(server, self._world.site.id):
                whole = [
                    (day, kept)
                    for day, kept in site.days.items()
                    if not site.damaged & {visitors_of(day), pages_of(day)}  # its logs will be dropped with it
                ]
                yield from ((f"redis {number}", day, kept.logs) for day, kept in whole)
        for (of, day), row in self._world.postgres.model.rows.items():
            if of == self._world.site.id:
                yield "postgres", day, row.logs

    def _nothing_durable_lacks_its_page(self) -> None:
        """What Postgres has of a day it has of its pages too: batches that are durable are forgotten.

        The pages of a spooled log come with the first and the last batch of a read, and stay on the disk until then.
        """
        if self._postgres_lost_data:
            return
        model = self._world.postgres.model
        on_disk = [file.pages for file in self._world.disk.model.files.values()]
        for (site, day), row in model.rows.items():
            ids = unpacked(row.sketch or b"")
            sure = [sent for sent in self._world.ledger if sent.page and sent.id in ids and not sent.risked]
            for page, views in Counter(sent.page for sent in sure if sent.day == day).items():
                logs = model.pages.of_day(site, page, day)
                for log in row.logs:
                    spooled = max((pages.get(log, {}).get(page, 0) for pages in on_disk), default=0)
                    logs[log] = max(logs.get(log, 0), spooled)
                assert sum(logs.values()) >= views, f"{views} views of {page} on {day} are durable, and not its page's"

    def _page_views(self) -> Iterator[tuple[str, str, date, int]]:
        """Of every copy of a page's day: whose it is, which page and day, its views."""
        for number, server in enumerate(self._world.redis):
            for site in self._sites(server):
                for day, kept in site.days.items():
                    for page, logs in kept.pages.items():
                        yield f"redis {number}", page, day, _counted(logs)
        for _, page, day, logs in self._world.postgres.model.pages.by_day():
            yield "postgres", page, day, _counted(logs)

    def _held(self) -> set[bytes]:
        """The ids of all beacons that some store, disk or living worker has."""
        packed = []
        for file in self._world.disk.model.files.values():
            packed += [batch.visitor_ids for batch in file.rows.values()]
        for worker in self._world.workers:
            for delivery in worker.recorder.sites.values():
                packed += [batch.visitor_ids for sender in delivery for batch in sender.log.retained]
        return unpacked(b"".join(packed)) | self._saved() | self._in_redis()

    def _saved(self) -> set[bytes]:
        return unpacked(b"".join(row.sketch or b"" for row in self._world.postgres.model.rows.values()))

    def _in_redis(self) -> set[bytes]:
        sites = [site for server in self._world.redis for site in self._sites(server)]
        return set[bytes]().union(*(day.visitors for site in sites for day in site.days.values()))

    def _sites(self, server: Server, only: str = "") -> list[SiteModel]:
        sites = [held for of, held in server.model.sites.items() if only in ("", of)]
        for site in sites:
            site.expire(self._world.clock())
        return sites
