-- The numbers that portals show beside the four: last week as a real set, and the most visitors that were online.

-- A week's union of visitors, as far as its days have been copied; after the week it is the number for ever. The days'
-- sums would count who came on two days twice, and their sketches are dropped after 35 days.
CREATE TABLE footfall.site_week (
    site     text    NOT NULL,
    week     date    NOT NULL CHECK (extract(isodow FROM week) = 1),     -- its Monday, in the site's time zone
    visitors bigint  NOT NULL CHECK (visitors BETWEEN 0 AND 9007199254740991),
    views    bigint  NOT NULL CHECK (views BETWEEN 0 AND 9007199254740991),
    exact    boolean NOT NULL DEFAULT false,      -- whether `visitors` is a count, and no estimate
    of_days  bigint,                              -- the sum of its days' visitors when `visitors` was taken
    PRIMARY KEY (site, week)
);

ALTER TABLE footfall.site_day
    ADD COLUMN peak_online bigint CHECK (peak_online > 0),              -- the most that were online at once; NULL = none
    ADD COLUMN peak_online_at timestamptz;                               -- the first moment of it, by Redis' clock

-- As for days: what a stolen password of the service must not do. Names are looked up in pg_catalog only.
CREATE FUNCTION footfall.guard_week() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER')
        AND ((NEW.site, NEW.week) IS DISTINCT FROM (OLD.site, OLD.week)
            OR NEW.visitors < OLD.visitors OR NEW.views < OLD.views)
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: a week only grows';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_week BEFORE UPDATE ON footfall.site_week FOR EACH ROW EXECUTE FUNCTION footfall.guard_week();

CREATE FUNCTION footfall.guard_peak() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER')
        AND (OLD.peak_online IS NOT NULL AND NEW.peak_online IS NULL OR NEW.peak_online < OLD.peak_online)
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: the most visitors of a day only rise';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard_peak BEFORE UPDATE ON footfall.site_day FOR EACH ROW EXECUTE FUNCTION footfall.guard_peak();
