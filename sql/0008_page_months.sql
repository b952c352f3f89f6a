-- Days of pages fold into months. A month remembers the views of each log and day, so that a late or repeated copy of a
-- folded day adds only what the month lacks: the same maximum of each log as in 0004.

ALTER TABLE footfall.page_month ADD COLUMN logs jsonb NOT NULL DEFAULT '{}';  -- {"day of the month, log id": views, ...}

CREATE FUNCTION footfall.logs_in_month(of_day date, logs jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(jsonb_object_agg(to_char(of_day, 'DD') || log.key, log.value), '{}') FROM jsonb_each(logs) AS log
$$;

-- Merge views into a page's month; returns by how many the month grew.
CREATE FUNCTION footfall.merge_into_month(of_site text, of_page text, of_month date, brought jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known  jsonb;
    merged jsonb;
    gained bigint;
BEGIN
    INSERT INTO footfall.page_month (site, page, month, views) VALUES (of_site, of_page, of_month, 0)
    ON CONFLICT DO NOTHING;
    SELECT logs INTO known FROM footfall.page_month
    WHERE (site, page, month) = (of_site, of_page, of_month) FOR UPDATE;
    merged := footfall.most_views(known, brought);
    gained := footfall.sum_of_views(merged) - footfall.sum_of_views(known);
    IF merged <> known THEN
        UPDATE footfall.page_month SET logs = merged, views = LEAST(views + gained, 9007199254740991)
        WHERE (site, page, month) = (of_site, of_page, of_month);
    END IF;
    RETURN gained;
END
$$;
REVOKE ALL ON FUNCTION footfall.logs_in_month(date, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION footfall.merge_into_month(text, text, date, jsonb) FROM PUBLIC;

CREATE FUNCTION footfall.add_to_page_total(of_site text, of_page text, more bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE footfall.page_total SET views = LEAST(GREATEST(views + more, 0), 9007199254740991)
    WHERE more <> 0 AND site = of_site AND page = COALESCE(
        (SELECT target FROM footfall.page_alias AS alias WHERE (alias.site, alias.page) = (of_site, of_page)), of_page)
$$;
REVOKE ALL ON FUNCTION footfall.add_to_page_total(text, text, bigint) FROM PUBLIC;

-- A copy of a day that is folded already goes into its month.
CREATE FUNCTION footfall.late_page() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_month date := date_trunc('month', NEW.day);
BEGIN
    -- While this transaction lasts, no fold may take the row that it looks for.
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('footfall.fold_pages ' || NEW.site, 0));
    IF EXISTS (SELECT FROM footfall.page_day WHERE (site, page, day) = (NEW.site, NEW.page, NEW.day))
        OR NOT EXISTS (SELECT FROM footfall.page_month WHERE (site, page, month) = (NEW.site, NEW.page, of_month))
    THEN
        RETURN NEW;
    END IF;
    PERFORM footfall.add_to_page_total(NEW.site, NEW.page, footfall.merge_into_month(
        NEW.site, NEW.page, of_month, footfall.logs_in_month(NEW.day, NEW.logs)));
    RETURN NULL;
END
$$;
-- Its name follows guard_page, which refuses what is no page. Younger days are never folded, and cost nothing here.
CREATE TRIGGER late_page BEFORE INSERT ON footfall.page_day
    FOR EACH ROW WHEN (NEW.day < CURRENT_DATE - 30) EXECUTE FUNCTION footfall.late_page();

-- Fold days of pages into months, the oldest first: whole months that ended before the month of `before`, and no day
-- that is younger than 31 days by this server's clock, whoever asks. At most so many rows begin a page's month.
-- Returns how many months of pages were folded, 0 when none are left, NULL while another session is at it.
CREATE FUNCTION footfall.fold_pages(of_site text, before date, at_most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    until   date := date_trunc('month', LEAST(before, CURRENT_DATE - 31));
    folded  integer := 0;
    one     record;
    removed bigint;
    brought jsonb;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('footfall.fold_pages ' || of_site, 0)) THEN
        RETURN NULL;
    END IF;
    LOCK TABLE footfall.page_day IN ROW EXCLUSIVE MODE;  -- a move of a page holds it until the totals follow
    FOR one IN
        SELECT DISTINCT page, date_trunc('month', day)::date AS month
        FROM (
            SELECT page, day FROM footfall.page_day WHERE site = of_site AND day < until ORDER BY day LIMIT at_most
        ) AS oldest
        ORDER BY page, month
    LOOP
        WITH taken AS (
            DELETE FROM footfall.page_day
            WHERE site = of_site AND page = one.page AND day >= one.month AND day < one.month + interval '1 month'
            RETURNING day, views, logs
        )
        SELECT (SELECT COALESCE(sum(views), 0) FROM taken),
            COALESCE(jsonb_object_agg(log.key, log.value), '{}')
        INTO removed, brought
        FROM taken, jsonb_each(footfall.logs_in_month(taken.day, taken.logs)) AS log;
        -- By 0, unless a row and the month had the same copy, as after a correction of this server's clock.
        PERFORM footfall.add_to_page_total(of_site, one.page,
            footfall.merge_into_month(of_site, one.page, one.month, brought) - removed);
        folded := folded + 1;
    END LOOP;
    RETURN folded;
END
$$;
REVOKE ALL ON FUNCTION footfall.fold_pages(text, date, integer) FROM PUBLIC;

CREATE VIEW footfall.report_page_month AS
    SELECT site, month, COALESCE(alias.target, page) AS page, sum(views)::bigint AS views
    FROM footfall.page_month LEFT JOIN footfall.page_alias AS alias USING (site, page) GROUP BY 1, 2, 3;
COMMENT ON VIEW footfall.report_page_month IS
    'Stable interface for reports: views of each site, month and page, of days that report_page_day has no longer';
