-- Days that another counter or an access log knew, before Footfall began, and events that last.

-- What became of days that were over: imported, forgotten, moved. Entries are only added, so a report can say who handed
-- in which number, and the public revision of the total changes with each: it may be lower afterwards.
CREATE TABLE footfall.day_journal (
    entry    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site     text        NOT NULL,
    day      date        NOT NULL,
    what     text        NOT NULL CHECK (what ~ '^[^[:cntrl:]]{1,200}$'),  -- 'log', 'days', 'demo': its source
    visitors bigint      NOT NULL CHECK (visitors BETWEEN 0 AND 9007199254740991),
    views    bigint      NOT NULL CHECK (views BETWEEN 0 AND 9007199254740991),
    made_by  text        NOT NULL DEFAULT session_user,
    made_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX day_journal_by_day ON footfall.day_journal (site, day, entry);

-- An imported day has one batch log, of this id, which no worker can have. Its seq is the entry of the journal: so a
-- later import replaces an earlier one by the rule of the merge.
CREATE FUNCTION footfall.is_imported(logs jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT logs ? '0000000000000000' AND logs - '0000000000000000' = '{}'
$$;

CREATE OR REPLACE VIEW footfall.report_day AS
    SELECT site, day, visitors, views, footfall.is_imported(logs) AS imported FROM footfall.site_day;

-- What lasted, as a store that was away, has a beginning and an end; of a moment both are NULL, and `at` says it.
-- The site '*' means every site.
ALTER TABLE footfall.event ADD COLUMN began timestamptz;
ALTER TABLE footfall.event ADD COLUMN ended timestamptz CHECK (ended >= began);

-- A worker that restarts again and again, or a stolen password of the service, must not fill the table: of a site and
-- kind the first 100 of a calendar month are kept.
CREATE FUNCTION footfall.bound_events() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF octet_length(NEW.detail) > 1000 OR NEW.kind !~ '^[a-z_~]{1,40}$' THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: this is no event';
    END IF;
    IF (SELECT count(*) FROM footfall.event
        WHERE (site, kind) = (NEW.site, NEW.kind) AND at >= date_trunc('month', now())) >= 100
    THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER bound_events BEFORE INSERT ON footfall.event FOR EACH ROW EXECUTE FUNCTION footfall.bound_events();

-- Record what lasted. Workers notice one outage at different moments, and each records it, some of them twice: where it
-- meets an event of the same site and kind, that one is extended. A minute apart is the same outage.
CREATE FUNCTION footfall.note_lasting(of_site text, of_kind text, since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    met text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('footfall.note_lasting ' || of_site || ' ' || of_kind, 0));
    SELECT detail INTO met FROM footfall.event
    WHERE (site, kind) = (of_site, of_kind)
        AND began <= until + interval '1 minute' AND ended >= since - interval '1 minute'
    ORDER BY began LIMIT 1;
    IF met IS NULL THEN
        INSERT INTO footfall.event (site, kind, detail, began, ended)
        VALUES (of_site, of_kind, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), since, until)
        ON CONFLICT DO NOTHING;
    ELSE
        UPDATE footfall.event SET began = LEAST(began, since), ended = GREATEST(ended, until)
        WHERE (site, kind, detail) = (of_site, of_kind, met);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION footfall.note_lasting(text, text, timestamptz, timestamptz) FROM PUBLIC;
