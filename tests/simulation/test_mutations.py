"""The tests are tested: a build with one guarantee taken out must fail the test that is named after it.

Each mutation changes a line or two in a copy of the program. The named test runs there, in a process of its own,
against real servers; the copy without a mutation passes the same tests. The simulation is held to the same.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import PROJECT

TIMEOUT_S = 300
PASSED, FAILED = 0, 1
"""Exit statuses of pytest; any other means that the test did not run."""

DEDUPLICATION_OFF = {
    "service/footfall/stores/scripts/record.lua": {"if seq <= applied then": "if false then"},
    "tests/simulation/models.py": {"if batch.seq <= applied:": "if False:"},
}
VIEWS_APART_FROM_THE_SEQ = {
    "service/footfall/stores/scripts/record.lua": {
        "    -- A script does not roll back.": (
            "    local before = entry and select(2, split(entry)) or 0\n"
            "    redis.call('HINCRBY', prefix .. 'apart', day, views - before)\n"
            "    -- A script does not roll back."
        ),
    },
    "service/footfall/stores/scripts/logs.lua": {
        "logs.views - views_before + views,": "tonumber(redis.call('HGET', prefix .. 'apart', day)),",
    },
}
SUM_IN_A_COMMAND_OF_ITS_OWN = {
    "service/footfall/stores/scripts/record.lua": {
        "    -- A script does not roll back.": (
            "    local sums = read_logs(day)\n"
            "    sums.views = sums.views - (entry and select(2, split(entry)) or 0) + views\n"
            "    redis.call('HSET', day_logs(day), SUM, sum_entry(sums))\n"
            "    -- A script does not roll back."
        ),
    },
    "service/footfall/stores/scripts/logs.lua": {"logs.views - views_before + views,": "logs.views,"},
    "tests/simulation/models.py": {
        "        day.logs |= written\n": (
            "        day.logs[SUM] = written[SUM]\n        self._may_stop(held)\n        day.logs |= written\n"
        ),
    },
}
SUM_OF_A_FORMER_PROGRAM_BELIEVED = {
    "service/footfall/stores/scripts/logs.lua": {
        "    if not is_marked(changes[at + 1]) then\n": "    if false then\n",
        "  if not read_at or read_at ~= summed_at then ": "  if false then ",
    },
    "service/footfall/stores/scripts/snapshot.lua": {
        "recount(day)": "read_logs(day), redis.call('HGETALL', day_logs(day))",
    },
    "tests/simulation/models.py": {
        "        for day in wanted:\n            self._recount(held, day)\n": "        for day in wanted:\n",
        "        if self._older:\n            return\n        held.touch(DIRTY)\n": "        return\n",
    },
}
ANSWER_BEFORE_COMMIT = {
    "service/footfall/delivery/sender.py": {
        "self._awaiting[batch.seq] = pending\n": "self._outlets.queue.answer(pending, StoredIn.REDIS)\n",
    },
}
END_AT_CREATION = {
    "service/footfall/stores/scripts/record.lua": {
        "keep_forever(day_sketch(day), day_ids(day))": "redis.call('EXPIRE', day_sketch(day), 172800)",
        "redis.call('PERSIST', day_logs(day))": "redis.call('EXPIRE', day_logs(day), 172800)",
    },
    "tests/simulation/models.py": {
        "        day.ends_s = held.weeks[week].ends_s = ALWAYS\n        if self": (
            "        day.ends_s = held.weeks[week].ends_s = self._clock() + TWO_DAYS_S\n        if self"
        ),
    },
}
MERGE_WITHOUT_ITS_GUARD = {
    "service/footfall/stores/day_rows.py": {
        "WHERE footfall.covers(EXCLUDED.logs, kept.logs)": "WHERE true",
        "WHERE NOT footfall.covers(copy.logs, kept.logs)": "WHERE false",
        "WHERE kept.visitors > copy.visitors AND": "WHERE false AND",
    },
    "tests/simulation/durable_models.py": {
        "if not covers(state.logs, row.logs) or _lacks_visitors(state, row):": "if False:"
    },
}
ONLY_OPEN_DAYS_RESTORED = {
    "service/footfall/model/retention.py": {
        "needed_from=week_of(still_open),": "needed_from=min(week_of(today), still_open),",
    },
}
UNION_OF_THE_DAYS_THAT_ARE_LEFT = {
    "service/footfall/stores/day_rows.py": {
        "for day in copy.snapshot.changes if day < retention.needed_from\n": "for day in ()\n",
    },
    "tests/simulation/durable_models.py": {
        "{week_of(day) for day in snapshot.changes if day < since and not older}": "set[date]()",
    },
}
LATE_DAY_WITHOUT_ITS_WEEK = UNION_OF_THE_DAYS_THAT_ARE_LEFT | {  # either guard makes the union whole
    "service/footfall/sync/restore.py": {
        "await self.merge(site, [own, *(state for state in saved if state.day != day and state.sketch)])": (
            "await self.merge(site, [own])"
        ),
    },
}
WEEK_ENDS_BEFORE_ITS_DAYS = {
    "service/footfall/stores/scripts/confirm.lua": {
        "if not is_needed[week] then keys[#keys + 1]": "if true then keys[#keys + 1]",
        "    redis.call('PERSIST', week_sketch(week)) -- a former version gave it an end\n": "",
    },
}
PEAK_OF_THE_LAST_COPY = {
    "service/footfall/stores/day_rows.py": {
        "peak_online = GREATEST(kept.peak_online, EXCLUDED.peak_online),": "peak_online = EXCLUDED.peak_online,",
        "WHEN kept.peak_online > COALESCE(EXCLUDED.peak_online, 0) THEN kept.peak_online_at": (
            "WHEN false THEN kept.peak_online_at"
        ),
    },
    "sql/0005_numbers.sql": {"OR NEW.peak_online < OLD.peak_online)": ")"},
}
ENDED_DAYS_FORGOTTEN = {
    "service/footfall/display/counts_cache.py": {
        "entry.known = reading if reading.spans is not None else entry.known": "entry.known = reading",
    },
}
IDS_FORGOTTEN_AT_THE_LIMIT = {
    "service/footfall/stores/scripts/record.lua": {
        "      redis.call('PFADD', day_sketch(day), unpack(slice))\n": (
            "      if not feeds_day then redis.call('PFADD', day_sketch(day), unpack(slice)) end\n"
        ),
    },
    "service/footfall/stores/scripts/visitors.lua": {
        "    redis.call('PFADD', sketch, unpack(ids, first, math.min(#ids, first + 999)))\n": "",
    },
    "tests/simulation/models.py": {
        "        day.visitors |= ids\n        self": (
            "        if not sets[0].ids:\n            day.visitors |= ids\n        self"
        ),
        "            sketch.update(ids)\n": "            sketch.update(() if kept.ids else ids)\n",
    },
}
SET_OUTLIVES_ITS_END = {
    "service/footfall/stores/scripts/visitors.lua": {"  redis.call('DEL', set)\n": ""},
    "tests/simulation/models.py": {"        kept.ids = set()\n": ""},
}
IDS_OUTLIVE_THEIR_KEY = {
    "service/footfall/stores/day_rows.py": {
        "await connection.execute(DROP_IDS, due, retention.salts_from, site_ids, names)": "pass",
        "ids = CASE WHEN kept.day < $2 THEN NULL": "ids = CASE WHEN false THEN NULL",
        "[state.ids if state.day >= retention.salts_from else None for state in days]": "[state.ids for state in days]",
    },
    "tests/simulation/durable_models.py": {
        "row.day < retention.salts_from and row.day not in given and is_due and not older": "False",
        "return replace(saved, ids=None) if state.day < retention.salts_from else saved": "return saved",
    },
}
READING_OF_THE_FUTURE_STAYS = {
    "service/footfall/stores/scripts/closed.lua": {"(gives_way or known_through >= today)": "known_through >= today"},
    "tests/simulation/models.py": {"(gives_way or known.through >= closed.today)": "known.through >= closed.today"},
}
LOST_LOGS_PASS_FOR_MARKED = {
    "service/footfall/stores/scripts/logs.lua": {
        "  return sketch_bytes > EMPTY_SKETCH_BYTES and redis.call('EXISTS', day_logs(day)) == 0\n": "  return false\n",
    },
    "tests/simulation/models.py": {"        return bool(self.visitors) and not self.logs\n": "        return False\n"},
}
IDS_OF_LOST_DAYS_STAY = {
    "service/footfall/stores/scripts/snapshot.lua": {"if wanted == 'all' then forget_lost_sets(at) end": ""},
    "tests/simulation/models.py": {"held.forget_lost_sets(weeks, self._clock())": "pass"},
}

PAGES_ADDED_UP = {
    "service/footfall/model/batch_log.py": {'packed(touched) if touched else b""': 'packed(pages) if pages else b""'},
    "service/footfall/stores/scripts/pages.lua": {
        "    local merged = with_views(entry or '', log_id, views[at])\n": (
            "    local known = string.match(' ' .. (entry or ''), ' ' .. log_id .. '=(%d+)') or 0\n"
            "    local merged = with_views(entry or '', log_id, string.format('%.0f', known + views[at]))\n"
        ),
    },
    "tests/simulation/models.py": {
        "day.set_page(page, batch.log_id, views, str(self._now_us()))": (
            "known = day.pages.get(page, {}).get(batch.log_id, 0)\n"
            "            day.set_page(page, batch.log_id, known + views, str(self._now_us()))"
        ),
    },
}
PAGES_APART_FROM_THEIR_DAY = {
    "service/footfall/stores/day_rows.py": {
        "    await save_pages(connection, pages_in(copies))\n": "",
    },
    "service/footfall/stores/postgres_store.py": {
        "            closed: dict[SiteId, Closed] = {}\n": (
            "            closed: dict[SiteId, Closed] = {}\n"
            "            from footfall.stores.day_rows import pages_in, save_pages\n"
            "            await save_pages(connection, pages_in(copies))\n"
        ),
    },
    "tests/simulation/durable_models.py": {"        self.pages.save(site, snapshot.pages)\n": ""},
    "tests/simulation/ports.py": {
        '        closed = await self._ask("tidy"': (
            "        for copy in group:\n"
            '            await self._ask("save_pages", lambda p, c=copy: p.pages.save(c.site_id, c.snapshot.pages))\n'
            '        closed = await self._ask("tidy"'
        ),
    },
}
PAGES_CONFIRMED_UNSEEN = {
    "service/footfall/stores/scripts/confirm_pages.lua": {
        "if redis.call('HGET', day_pages_dirty(day), page) == last_change then": "if last_change then",
    },
    "tests/simulation/models.py": {
        "if dirty.get(page.page) == page.changed:": "if page.page in dirty:",
    },
}
DAMAGED_PAGES_GIVEN_UP = {
    "service/footfall/stores/spool_orphans.py": {
        "            pages = highest([*pages, *salvaged_page_rows(path)])\n": "            pages = []\n",
    },
}
PAGES_ONCE_ON_THE_DISK = {
    "service/footfall/stores/spool_pages.py": {
        "    for table in TABLES:\n        file.executemany(": (
            "    for table in TABLES[:1]:\n        file.executemany("
        ),
    },
}
LAST_BATCH_ALONE_CARRIES_PAGES = {
    "service/footfall/stores/spool_store.py": {"carrying = {0, len(batches) - 1}": "carrying = {len(batches) - 1}"},
}

REPEATS_NOT_LOOKED_UP = {
    "service/footfall/stores/scripts/record.lua": {"if #viewed > 0 and is_new == 'new' then": "if false then"},
    "tests/simulation/models.py": {"if self._older or batch.may_be_applied:": "if True:"},
}
IDS_IN_A_CALL_OF_THEIR_OWN = {
    "service/footfall/stores/scripts/record.lua": {
        "    answer = 'DUP'\n": (
            "    answer = 'DUP'\n    if view_ids ~= '' then remember_views(split_views(view_ids), now) end\n"
        ),
        "    if #viewed > 0 then remember_views(viewed, now) end\n": "",
    },
    "tests/simulation/models.py": {
        "                answer = Answer.DUP\n": (
            "                answer = Answer.DUP\n"
            "                now_ms = int(self._clock() * 1000)\n"
            "                held.view_ids[now_ms // VIEWS_MS] |= unpacked(batch.view_ids, VIEW_BYTES)\n"
        ),
        (
            "            held.view_ids[now_ms // VIEWS_MS] |= unpacked(batch.view_ids, VIEW_BYTES)\n"
            "            self._write(held, day, batch.log_id"
        ): "            self._write(held, day, batch.log_id",
    },
    "service/footfall/delivery/sender.py": {
        "        self._unanswered = 0\n        if not may_be_applied": (
            "        if batch.view_ids and recorded.answer is Answer.OK:\n"
            "            await self._outlets.redis.record(self.site, batch, skip_gap=False)\n"
            "        self._unanswered = 0\n        if not may_be_applied"
        ),
    },
}

LIVE_DAY_OVERWRITTEN = {
    "service/footfall/cli/day_imports.py": {"    if day >= first:\n": "    if False:\n"},
    "service/footfall/stores/day_imports.py": {
        '    WHERE footfall.is_imported(kept.logs)\n"""': '    WHERE true\n"""',
    },
}
IMPORT_ADDED_UP = {
    "service/footfall/stores/day_imports.py": {
        "visitors = EXCLUDED.visitors, views = EXCLUDED.views, logs = EXCLUDED.logs,": (
            "visitors = kept.visitors + EXCLUDED.visitors, views = kept.views + EXCLUDED.views, logs = EXCLUDED.logs,"
        ),
    },
    "tests/simulation/durable_models.py": {
        "row, visitors=day.visitors, logs=logs,": "row, visitors=row.visitors + day.visitors, logs=logs,",
    },
}

NAMED_TESTS = {
    "deduplication off": (
        DEDUPLICATION_OFF,
        "delivery/test_recorder.py::test_a_batch_that_arrives_again_late_takes_nothing_back",
    ),
    "views apart from the seq": (
        VIEWS_APART_FROM_THE_SEQ,
        "delivery/test_recorder.py::test_a_batch_that_fails_in_the_middle_has_counted_nothing",
    ),
    "the sum in a command of its own": (
        SUM_IN_A_COMMAND_OF_ITS_OWN,
        "delivery/test_recorder.py::test_a_batch_that_fails_in_the_middle_has_counted_nothing",
    ),
    "the sum of a former program believed": (
        SUM_OF_A_FORMER_PROGRAM_BELIEVED,
        "stores/test_sums.py::test_what_a_former_program_wrote_is_counted_again",
    ),
    "answer before commit": (
        ANSWER_BEFORE_COMMIT,
        "delivery/test_recorder.py::test_a_beacon_is_answered_once_redis_has_it_and_not_before",
    ),
    "end at creation": (
        END_AT_CREATION,
        "delivery/test_recorder.py::test_nothing_that_counts_has_an_end_before_postgres_has_it",
    ),
    "merge without its guard": (
        MERGE_WITHOUT_ITS_GUARD,
        "delivery/test_reconciler.py::test_two_rollups_that_commit_in_reverse_order_take_nothing_back",
    ),
    "only open days restored": (
        ONLY_OPEN_DAYS_RESTORED,
        "sync/test_turns.py::test_a_site_that_redis_lost_has_its_numbers_again",
    ),
    "a late day without its week": (
        LATE_DAY_WITHOUT_ITS_WEEK,
        "sync/test_turns.py::test_a_week_that_is_over_keeps_its_number",
    ),
    "a union of the days that are left": (
        UNION_OF_THE_DAYS_THAT_ARE_LEFT,
        "sync/test_rollup.py::test_a_week_that_is_over_is_whole_again_after_a_late_visitor",
    ),
    "a week that ends before its days": (
        WEEK_ENDS_BEFORE_ITS_DAYS,
        "stores/test_redis_confirm.py::test_a_week_lives_as_long_as_a_day_of_it_has_no_end",
    ),
    "the peak of the last copy": (
        PEAK_OF_THE_LAST_COPY,
        "sync/test_turns.py::test_the_most_that_were_online_are_kept_and_come_back",
    ),
    "ended days forgotten": (
        ENDED_DAYS_FORGOTTEN,
        "display/test_counts_cache.py::test_what_was_shown_of_ended_days_outlives_a_reading_that_does_not_know_them",
    ),
    "ids forgotten at the limit": (
        IDS_FORGOTTEN_AT_THE_LIMIT,
        "stores/test_exact_days.py::test_small_numbers_are_exact_and_larger_ones_never_begin_lower",
    ),
    "a set that outlives its end": (
        SET_OUTLIVES_ITS_END,
        "stores/test_exact_days.py::test_small_numbers_are_exact_and_larger_ones_never_begin_lower",
    ),
    "ids that outlive their key": (
        IDS_OUTLIVE_THEIR_KEY,
        "stores/test_exact_days.py::test_a_row_has_the_ids_until_their_key_is_destroyed_and_stays_exact",
    ),
    "a reading of the future that stays": (
        READING_OF_THE_FUTURE_STAYS,
        "sync/test_clocks_ahead.py::test_a_reading_of_this_evening_gives_way_in_the_night_before",
    ),
    "lost logs that pass for marked": (
        LOST_LOGS_PASS_FOR_MARKED,
        "stores/test_exact_days.py::test_a_day_whose_logs_are_lost_is_an_estimate_and_loses_nobody",
    ),
    "ids of lost days that stay": (
        IDS_OF_LOST_DAYS_STAY,
        "stores/test_exact_days.py::test_the_ids_of_a_day_that_is_lost_end_with_the_next_full_rollup",
    ),
    "pages added up": (
        PAGES_ADDED_UP,
        "delivery/test_page_counts.py::test_a_batch_that_fails_in_the_middle_counts_no_page_twice",
    ),
    "pages apart from their day": (
        PAGES_APART_FROM_THEIR_DAY,
        "delivery/test_page_counts.py::test_a_day_is_durable_with_its_pages_or_not_at_all",
    ),
    "pages confirmed unseen": (
        PAGES_CONFIRMED_UNSEEN,
        "delivery/test_page_counts.py::test_a_page_that_changes_during_a_rollup_is_copied_by_the_next_one",
    ),
    "damaged pages given up": (
        DAMAGED_PAGES_GIVEN_UP,
        "stores/test_spool_pages.py::test_a_damaged_byte_costs_no_view_of_a_page_but_with_the_only_batch_of_its_log",
    ),
    "pages once on the disk": (
        PAGES_ONCE_ON_THE_DISK,
        "stores/test_spool_pages.py::test_a_damaged_byte_costs_no_view_of_a_page_but_with_the_only_batch_of_its_log",
    ),
    "the last batch alone carries pages": (
        LAST_BATCH_ALONE_CARRIES_PAGES,
        "stores/test_spool_pages.py::test_a_batch_that_memory_forgot_comes_back_from_the_disk_with_its_pages",
    ),
    "a repeat that is not looked up": (
        REPEATS_NOT_LOOKED_UP,
        "delivery/test_views_again.py::test_a_view_that_another_worker_has_counted_counts_once",
    ),
    "ids in a call of their own": (
        IDS_IN_A_CALL_OF_THEIR_OWN,
        "delivery/test_views_again.py::test_ids_cost_no_call_of_their_own",
    ),
    "a live day overwritten by an import": (
        LIVE_DAY_OVERWRITTEN,
        "cli/test_day_imports.py::test_days_that_footfall_counted_are_never_touched",
    ),
}
SIMULATION = "simulation/test_simulation.py::test_whatever_happens_every_beacon_counts_once"
SIMULATED = {
    "deduplication off": (DEDUPLICATION_OFF, "lose_answer,double,arrive_late"),
    "the sum in a command of its own": (SUM_IN_A_COMMAND_OF_ITS_OWN, "fails_within"),
    "the sum of a former program believed": (SUM_OF_A_FORMER_PROGRAM_BELIEVED, ""),
    "answer before commit": (ANSWER_BEFORE_COMMIT, ""),
    "end at creation": (END_AT_CREATION, ""),
    "merge without its guard": (MERGE_WITHOUT_ITS_GUARD, "redis_is_copied,redis_goes_back,delay,arrive_late"),
    "ids forgotten at the limit": (IDS_FORGOTTEN_AT_THE_LIMIT, ""),
    "a set that outlives its end": (SET_OUTLIVES_ITS_END, ""),
    "ids that outlive their key": (IDS_OUTLIVE_THEIR_KEY, ""),
    "pages added up": (PAGES_ADDED_UP, ""),
    "a repeat that is not looked up": (REPEATS_NOT_LOOKED_UP, "page_sends_again"),
    "pages apart from their day": (PAGES_APART_FROM_THEIR_DAY, ""),
    "pages confirmed unseen": (PAGES_CONFIRMED_UNSEEN, "rollup_is_cut"),
    "an import that adds up": (IMPORT_ADDED_UP, ""),
}
"""Each with the faults that show it, where chance takes minutes to bring them together among all others."""


def build(folder: Path, mutation: dict[str, dict[str, str]]) -> Path:
    """Copy the program and its tests, and change what `mutation` says; each passage must be there once.

    What is compiled is copied too, but for files that another test is just writing; Python compiles what was changed.
    """
    for name in ("service", "tests", "sql"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    for name, changes in mutation.items():
        text = (folder / name).read_text()
        for passage, instead in changes.items():
            assert text.count(passage) == 1, f"{name} has changed: {passage!r} is in it {text.count(passage)} times"
            text = text.replace(passage, instead)
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *tests: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run some tests of a build."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "service"), "PYTHONDONTWRITEBYTECODE": "1"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize(("mutation", "test"), NAMED_TESTS.values(), ids=NAMED_TESTS)
def test_a_build_without_the_guarantee_fails_its_test(
    tmp_path: Path, mutation: dict[str, dict[str, str]], test: str
) -> None:
    """A test that passes whatever the program does protects nothing."""
    done = run(build(tmp_path, mutation), test)
    assert done.returncode == FAILED, done.stdout
    assert f"FAILED tests/{test}" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_unchanged_build_passes_them_all(tmp_path: Path) -> None:
    """Otherwise the failures above would come from the copying."""
    done = run(build(tmp_path, {}), *(test for _, test in NAMED_TESTS.values()))
    assert done.returncode == PASSED, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize(("mutation", "faults"), SIMULATED.values(), ids=SIMULATED)
def test_the_simulation_finds_it_too(tmp_path: Path, mutation: dict[str, dict[str, str]], faults: str) -> None:
    """Its checks are measured on defects that are known to be there; with FOOTFALL_FAULTS= all faults come for each."""
    drawn = {"FOOTFALL_FAULTS": os.environ.get("FOOTFALL_FAULTS", faults)}
    done = run(build(tmp_path, mutation), SIMULATION, FOOTFALL_SHRINK="no", FOOTFALL_RUNS="1500", **drawn)
    assert done.returncode == FAILED, done.stdout
    assert "FOOTFALL_SEED=" in done.stdout
