-- Views of pages, page by page. A row of a day holds the views that each batch log brought; two copies of a row meet by
-- the maximum of each log, so a copy that comes twice, late or in any order changes nothing.

CREATE TABLE footfall.page_day (
    site  text   NOT NULL,
    page  text   NOT NULL,                        -- a path of the site, normalised; '(other)' for all beyond the bounds
    day   date   NOT NULL,
    views bigint NOT NULL CHECK (views BETWEEN 0 AND 9007199254740991),  -- the sum over the logs
    logs  jsonb  NOT NULL,                        -- {"log id": views, ...}
    PRIMARY KEY (site, page, day)
);
CREATE INDEX page_day_by_day ON footfall.page_day (site, day);

-- Days that are older than pages_kept_days, folded together.
CREATE TABLE footfall.page_month (
    site  text   NOT NULL,
    page  text   NOT NULL,
    month date   NOT NULL,                        -- its first day
    views bigint NOT NULL CHECK (views BETWEEN 0 AND 9007199254740991),
    PRIMARY KEY (site, page, month)
);

-- All views of a page: its days, its months, and whatever else adds to it. Triggers keep it, by difference.
CREATE TABLE footfall.page_total (
    site  text   NOT NULL,
    page  text   NOT NULL,
    views bigint NOT NULL CHECK (views BETWEEN 0 AND 9007199254740991),
    PRIMARY KEY (site, page)
);

CREATE VIEW footfall.report_page_day AS SELECT site, day, page, views FROM footfall.page_day;
COMMENT ON VIEW footfall.report_page_day IS 'Stable interface for reports: views of each site, day and page';

-- The merge of two copies of a page's day: the higher number of each log.
CREATE FUNCTION footfall.most_views(one jsonb, other jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT COALESCE(jsonb_object_agg(log, views), '{}') FROM (
        SELECT log, max(views::bigint) AS views
        FROM (SELECT * FROM jsonb_each_text(one) UNION ALL SELECT * FROM jsonb_each_text(other)) AS copies (log, views)
        GROUP BY log
    ) AS merged
$$;

CREATE FUNCTION footfall.sum_of_views(logs jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT LEAST(COALESCE(sum(views::numeric), 0), 9007199254740991)::bigint FROM jsonb_each_text(logs) AS log (id, views)
$$;

-- What a stolen password of the service must not do: pages only grow, by the rule of the merge.
-- Raises insufficient_privilege for what is no merge. Names are looked up in pg_catalog only: the role sets its own path.
CREATE FUNCTION footfall.guard_page() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    IF NOT (NEW.page = '(other)' OR NEW.page ~ '^/[^[:cntrl:] ]*$') OR octet_length(NEW.page) > 2000 THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: this is no page';
    END IF;
    IF jsonb_typeof(NEW.logs) <> 'object' OR EXISTS (
        SELECT FROM jsonb_each(NEW.logs) AS log
        WHERE log.key !~ '^[0-9A-Za-z]{1,64}$' OR log.value::text !~ '^[0-9]{1,15}$'
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: these are no views of batch logs';
    END IF;
    IF TG_OP = 'UPDATE' AND (
        (NEW.site, NEW.page, NEW.day) IS DISTINCT FROM (OLD.site, OLD.page, OLD.day)
        OR footfall.most_views(NEW.logs, OLD.logs) <> NEW.logs
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: the views of a page only grow, by the rule of the merge';
    END IF;
    IF NEW.views <> footfall.sum_of_views(NEW.logs) THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: the views of a page are those of its logs';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_page BEFORE INSERT OR UPDATE ON footfall.page_day
    FOR EACH ROW EXECUTE FUNCTION footfall.guard_page();

-- The totals follow in the same statement. The service has no right to write them itself.
CREATE FUNCTION footfall.total_inserted_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.page_total AS total (site, page, views)
    SELECT site, page, LEAST(sum(views), 9007199254740991) FROM inserted GROUP BY site, page ORDER BY site, page
    ON CONFLICT (site, page) DO UPDATE SET views = LEAST(total.views + EXCLUDED.views, 9007199254740991);
    RETURN NULL;
END
$$;
CREATE FUNCTION footfall.total_updated_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.page_total AS total (site, page, views)
    SELECT site, page, LEAST(GREATEST(sum(now.views - COALESCE(before.views, 0)), -9007199254740991), 9007199254740991)
    FROM updated AS now LEFT JOIN replaced AS before USING (site, page, day)
    GROUP BY site, page ORDER BY site, page
    ON CONFLICT (site, page) DO UPDATE
        SET views = LEAST(GREATEST(total.views + EXCLUDED.views, 0), 9007199254740991);
    RETURN NULL;
END
$$;
CREATE TRIGGER total_inserted_pages AFTER INSERT ON footfall.page_day
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION footfall.total_inserted_pages();
CREATE TRIGGER total_updated_pages AFTER UPDATE ON footfall.page_day
    REFERENCING OLD TABLE AS replaced NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION footfall.total_updated_pages();
