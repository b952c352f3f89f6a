-- The roles of Footfall in PostgreSQL: the owner migrates, the service only counts, a report only reads.
-- This file is no migration. An administrator runs it in Footfall's database: before the first `footfall migrate`,
-- which needs the owner; again after it, for the rights on the tables; and after each upgrade. More runs do no harm.
--
--     psql "postgresql://postgres@postgres.example.vn/footfall" -f sql/roles.sql
--     psql "postgresql://postgres@postgres.example.vn/footfall" -c '\password footfall_owner' -c '\password footfall_service'
--
--     FOOTFALL_MIGRATE_URL=postgresql://footfall_owner:…@postgres.example.vn/footfall?sslmode=verify-full
--     FOOTFALL_POSTGRES_URL=postgresql://footfall_service:…@postgres.example.vn/footfall?sslmode=verify-full

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['footfall_owner', 'footfall_service', 'footfall_report'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
        END IF;
    END LOOP;

    -- No other role of this server may connect to the database or make tables in it.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO footfall_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO footfall_service, footfall_report', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- footfall_report is a group: GRANT footfall_report TO each login that reads reports.
ALTER ROLE footfall_owner LOGIN;
ALTER ROLE footfall_service LOGIN;

DO $$
BEGIN
    IF to_regclass('footfall.migration') IS NULL THEN
        RAISE NOTICE 'The tables do not exist yet: run this once more after footfall migrate.';
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA footfall TO footfall_service, footfall_report;
    REVOKE ALL ON ALL TABLES IN SCHEMA footfall FROM footfall_service, footfall_report;

    GRANT SELECT ON footfall.migration, footfall.installation TO footfall_service;
    -- Days are never deleted or moved, and the trigger guard_day lets them only grow.
    GRANT SELECT, INSERT, UPDATE (visitors, views, sketch, checksum, logs, peak_online, peak_online_at, ids, ids_checksum,
        exact)
        ON footfall.site_day TO footfall_service;
    -- Weeks only grow as well (guard_week).
    GRANT SELECT, INSERT, UPDATE (visitors, views, exact, of_days) ON footfall.site_week TO footfall_service;
    -- The trigger guard_page lets the views of pages only grow; other triggers keep their totals.
    GRANT SELECT, INSERT, UPDATE (views, logs) ON footfall.page_day TO footfall_service;
    GRANT SELECT ON footfall.page_month, footfall.page_total TO footfall_service;
    -- Days become months by their function alone, which takes no day that is younger than 31 days.
    GRANT EXECUTE ON FUNCTION footfall.fold_pages(text, date, integer) TO footfall_service;
    -- Starting numbers and moves of pages are journals: a move is written by its function alone.
    GRANT SELECT, INSERT (site, id, page, views) ON footfall.page_import TO footfall_service;
    GRANT SELECT ON footfall.page_move, footfall.page_alias TO footfall_service;
    GRANT EXECUTE ON FUNCTION footfall.move_page(text, text, text) TO footfall_service;
    -- Entries of the journal never change; PostgreSQL itself records the writer and the time.
    GRANT SELECT, INSERT (site, id, amount, reason) ON footfall.adjustment TO footfall_service;
    -- Events are never changed either; PostgreSQL dates them.
    GRANT SELECT, INSERT (site, kind, detail) ON footfall.event TO footfall_service;
    GRANT EXECUTE ON FUNCTION footfall.note_lasting(text, text, timestamptz, timestamptz),
        footfall.note_running(text, text, timestamptz, timestamptz) TO footfall_service;
    -- Days are imported by the owner alone; the service adds them to the total.
    GRANT SELECT ON footfall.day_journal TO footfall_service;
    -- Triggers keep the sums of months.
    GRANT SELECT ON footfall.site_month TO footfall_service;
    -- Tokens of reports are made, replaced and revoked by `footfall report-token`; a reader with this role needs none.
    GRANT SELECT, INSERT (site, hash), UPDATE (hash, made_by, made_at), DELETE ON footfall.report_token
        TO footfall_service;
    -- The service deletes a salt after its week, and never changes one.
    GRANT SELECT, INSERT, DELETE ON footfall.salt TO footfall_service;

    GRANT SELECT ON footfall.report_day, footfall.report_page_day, footfall.report_page_month TO footfall_report;
END
$$;
