-- Starting numbers of pages, and pages that were renamed. Both are journals, of which entries are only added; the totals
-- follow in the same statement. What Redis copies is not touched: its rows still meet by the maximum of each log.

-- What an import adds to a page. An import that is repeated with other numbers adds the difference.
CREATE TABLE footfall.page_import (
    entry   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site    text        NOT NULL,
    id      text        NOT NULL CHECK (id ~ '^[^[:cntrl:]]{1,100}$'),  -- of the file; the same one counts once
    page    text        NOT NULL CHECK (page ~ '^/[^[:cntrl:] ]*$' AND octet_length(page) <= 2000),
    views   bigint      NOT NULL CHECK (views BETWEEN -9007199254740991 AND 9007199254740991),
    made_by text        NOT NULL DEFAULT session_user,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX page_import_by_page ON footfall.page_import (site, page);

-- From now on the views of `page` are shown as those of `target`; the same page as both takes the move back.
CREATE TABLE footfall.page_move (
    entry   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site    text        NOT NULL,
    page    text        NOT NULL CHECK (page ~ '^/[^[:cntrl:] ]*$' AND octet_length(page) <= 2000),
    target  text        NOT NULL CHECK (target ~ '^/[^[:cntrl:] ]*$' AND octet_length(target) <= 2000),
    made_by text        NOT NULL DEFAULT session_user,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- What the moves come to: where the views of a page are shown, at the end of all its moves.
CREATE TABLE footfall.page_alias (
    site   text NOT NULL,
    page   text NOT NULL,
    target text NOT NULL CHECK (target <> page),
    PRIMARY KEY (site, page)
);

-- As in 0004, but under the page where the views are shown.
CREATE OR REPLACE FUNCTION footfall.total_inserted_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.page_total AS total (site, page, views)
    SELECT site, COALESCE(alias.target, page), LEAST(sum(views), 9007199254740991)
    FROM inserted LEFT JOIN footfall.page_alias AS alias USING (site, page) GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (site, page) DO UPDATE SET views = LEAST(total.views + EXCLUDED.views, 9007199254740991);
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION footfall.total_updated_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.page_total AS total (site, page, views)
    SELECT site, COALESCE(alias.target, page),
        LEAST(GREATEST(sum(now.views - COALESCE(before.views, 0)), -9007199254740991), 9007199254740991)
    FROM updated AS now LEFT JOIN replaced AS before USING (site, page, day)
    LEFT JOIN footfall.page_alias AS alias USING (site, page)
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (site, page) DO UPDATE
        SET views = LEAST(GREATEST(total.views + EXCLUDED.views, 0), 9007199254740991);
    RETURN NULL;
END
$$;

-- A repeated import may lower a number: then there is a total to be lowered, and none to be made.
CREATE FUNCTION footfall.total_imported_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO footfall.page_total AS total (site, page, views)
    SELECT site, COALESCE(alias.target, page), LEAST(sum(views), 9007199254740991)
    FROM imported LEFT JOIN footfall.page_alias AS alias USING (site, page)
    GROUP BY 1, 2 HAVING sum(views) >= 0 ORDER BY 1, 2
    ON CONFLICT (site, page) DO UPDATE SET views = LEAST(total.views + EXCLUDED.views, 9007199254740991);
    UPDATE footfall.page_total AS total SET views = GREATEST(total.views + lowered.views, 0)
    FROM (
        SELECT site, COALESCE(alias.target, page) AS page, sum(views) AS views
        FROM imported LEFT JOIN footfall.page_alias AS alias USING (site, page)
        GROUP BY 1, 2 HAVING sum(views) < 0
    ) AS lowered
    WHERE (total.site, total.page) = (lowered.site, lowered.page);
    RETURN NULL;
END
$$;
CREATE TRIGGER total_imported_pages AFTER INSERT ON footfall.page_import
    REFERENCING NEW TABLE AS imported FOR EACH STATEMENT EXECUTE FUNCTION footfall.total_imported_pages();

-- Show the views of one page as those of another, from now on and for all days; returns the views of the other one then.
CREATE FUNCTION footfall.move_page(of_site text, old text, new text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown_as text;          -- where the views of `new` are shown
    pages    text[];        -- pages whose totals change
    shown    text[];        -- pages whose views are in these totals
BEGIN
    -- A copy from Redis that does not know the move must not add to a total after it was moved.
    LOCK TABLE footfall.page_day, footfall.page_import IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO footfall.page_move (site, page, target) VALUES (of_site, old, new);
    SELECT array_agg(target) INTO pages FROM footfall.page_alias WHERE site = of_site AND page IN (old, new);
    SELECT COALESCE((SELECT target FROM footfall.page_alias WHERE site = of_site AND page = new), new) INTO shown_as;
    IF shown_as = old THEN  -- renamed back: `new` is a page again
        DELETE FROM footfall.page_alias WHERE site = of_site AND page = new;
        shown_as := new;
    END IF;
    IF old = new THEN
        DELETE FROM footfall.page_alias WHERE site = of_site AND page = old;
        shown_as := new;
    ELSE
        UPDATE footfall.page_alias SET target = shown_as WHERE site = of_site AND target = old AND page <> shown_as;
        INSERT INTO footfall.page_alias (site, page, target) VALUES (of_site, old, shown_as)
        ON CONFLICT (site, page) DO UPDATE SET target = EXCLUDED.target;
    END IF;
    pages := pages || ARRAY[old, new, shown_as];
    SELECT pages || array_agg(page) INTO shown FROM footfall.page_alias WHERE site = of_site AND target = ANY(pages);
    DELETE FROM footfall.page_total WHERE site = of_site AND page = ANY(pages);
    INSERT INTO footfall.page_total (site, page, views)
    SELECT of_site, COALESCE(alias.target, own.page), LEAST(GREATEST(sum(views), 0), 9007199254740991)
    FROM (
        SELECT page, views FROM footfall.page_day WHERE site = of_site AND page = ANY(shown)
        UNION ALL SELECT page, views FROM footfall.page_month WHERE site = of_site AND page = ANY(shown)
        UNION ALL SELECT page, views FROM footfall.page_import WHERE site = of_site AND page = ANY(shown)
    ) AS own
    LEFT JOIN footfall.page_alias AS alias ON (alias.site, alias.page) = (of_site, own.page)
    WHERE COALESCE(alias.target, own.page) = ANY(pages)
    GROUP BY 2;
    RETURN COALESCE((SELECT views FROM footfall.page_total WHERE site = of_site AND page = shown_as), 0);
END
$$;
REVOKE ALL ON FUNCTION footfall.move_page(text, text, text) FROM PUBLIC;

CREATE OR REPLACE VIEW footfall.report_page_day AS
    SELECT site, day, COALESCE(alias.target, page) AS page, sum(views)::bigint AS views
    FROM footfall.page_day LEFT JOIN footfall.page_alias AS alias USING (site, page) GROUP BY 1, 2, 3;
