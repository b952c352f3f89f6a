-- What lasts is an event from its beginning: before, a report that was made during an outage did not name it, and an
-- outage in which every worker ended was never named.

-- Whether a worker said last that it goes on; `ended` is the moment at which it said so. Who reads it takes what no worker
-- has said for some minutes for over: the worker may have died.
ALTER TABLE footfall.event ADD COLUMN running boolean NOT NULL DEFAULT false;

-- As in 0009, and the event does not run any more. Where it does for another worker, that one says so within a minute.
CREATE OR REPLACE FUNCTION footfall.note_lasting(of_site text, of_kind text, since timestamptz, until timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
        UPDATE footfall.event SET began = LEAST(began, since), ended = GREATEST(ended, until), running = false
        WHERE (site, kind, detail) = (of_site, of_kind, met);
    END IF;
END
$$;

-- Record what lasts: `seen` is now, by the clock of the worker.
CREATE FUNCTION footfall.note_running(of_site text, of_kind text, since timestamptz, seen timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM footfall.note_lasting(of_site, of_kind, since, seen);
    UPDATE footfall.event SET running = true
    WHERE (site, kind) = (of_site, of_kind) AND began <= seen AND ended >= seen AND ended <= seen + interval '1 minute';
END
$$;
REVOKE ALL ON FUNCTION footfall.note_running(text, text, timestamptz, timestamptz) FROM PUBLIC;
