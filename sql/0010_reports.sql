-- What reports need beside the days: who may read them from outside, and the sums of months.

-- Of a token, which has 256 random bits, only the hash is here (reports = "token").
CREATE TABLE footfall.report_token (
    site    text        PRIMARY KEY,              -- a new token replaces the former one
    hash    bytea       NOT NULL CHECK (octet_length(hash) = 32),   -- SHA-256
    made_by text        NOT NULL DEFAULT current_user,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- The days of a calendar month, summed up: a report about ten years of a thousand sites would read 3.6 million days.
-- Triggers keep it, by difference, whatever adds, changes, moves or deletes days.
CREATE TABLE footfall.site_month (
    site       text    NOT NULL,
    month      date    NOT NULL,                  -- its first day
    days       integer NOT NULL,                  -- how many of its days have numbers
    exact_days integer NOT NULL,                  -- of how many of them the visitors are no estimate
    visitors   numeric NOT NULL,                  -- a day from before the table bounded them may be near the end of bigint
    views      numeric NOT NULL,
    PRIMARY KEY (site, month)
);

INSERT INTO footfall.site_month (site, month, days, exact_days, visitors, views)
SELECT site, date_trunc('month', day)::date, count(*), count(*) FILTER (WHERE exact), sum(visitors), sum(views)
FROM footfall.site_day GROUP BY 1, 2;

-- A transition table has its name for one kind of event only, so each kind has a function; they are one.
CREATE FUNCTION footfall.sum_inserted_days() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.site_month AS kept (site, month, days, exact_days, visitors, views)
    SELECT site, date_trunc('month', day)::date, count(*), count(*) FILTER (WHERE exact), sum(visitors), sum(views)
    FROM inserted GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (site, month) DO UPDATE SET
        days = kept.days + EXCLUDED.days, exact_days = kept.exact_days + EXCLUDED.exact_days,
        visitors = kept.visitors + EXCLUDED.visitors, views = kept.views + EXCLUDED.views;
    RETURN NULL;
END
$$;
CREATE FUNCTION footfall.sum_updated_days() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.site_month AS kept (site, month, days, exact_days, visitors, views)
    SELECT site, date_trunc('month', day)::date, sum(n), sum(n * exact::integer), sum(n * visitors::numeric),
        sum(n * views::numeric)
    FROM (
        SELECT 1 AS n, site, day, exact, visitors, views FROM updated
        UNION ALL SELECT -1, site, day, exact, visitors, views FROM replaced
    ) AS change
    GROUP BY 1, 2
    -- Most copies change nothing but the logs.
    HAVING (sum(n), sum(n * exact::integer), sum(n * visitors::numeric), sum(n * views::numeric)) <> (0, 0, 0, 0)
    ORDER BY 1, 2
    ON CONFLICT (site, month) DO UPDATE SET
        days = kept.days + EXCLUDED.days, exact_days = kept.exact_days + EXCLUDED.exact_days,
        visitors = kept.visitors + EXCLUDED.visitors, views = kept.views + EXCLUDED.views;
    RETURN NULL;
END
$$;
CREATE FUNCTION footfall.sum_deleted_days() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE footfall.site_month AS kept SET
        days = kept.days - gone.days, exact_days = kept.exact_days - gone.exact_days,
        visitors = kept.visitors - gone.visitors, views = kept.views - gone.views
    FROM (
        SELECT site, date_trunc('month', day)::date AS month, count(*) AS days,
            count(*) FILTER (WHERE exact) AS exact_days, sum(visitors) AS visitors, sum(views) AS views
        FROM deleted GROUP BY 1, 2
    ) AS gone
    WHERE (kept.site, kept.month) = (gone.site, gone.month);
    DELETE FROM footfall.site_month AS kept USING (SELECT DISTINCT site FROM deleted) AS gone
    WHERE kept.site = gone.site AND kept.days <= 0;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION footfall.sum_inserted_days(), footfall.sum_updated_days(), footfall.sum_deleted_days() FROM PUBLIC;

CREATE TRIGGER sum_inserted_days AFTER INSERT ON footfall.site_day
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION footfall.sum_inserted_days();
CREATE TRIGGER sum_updated_days AFTER UPDATE ON footfall.site_day
    REFERENCING OLD TABLE AS replaced NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION footfall.sum_updated_days();
CREATE TRIGGER sum_deleted_days AFTER DELETE ON footfall.site_day
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION footfall.sum_deleted_days();
