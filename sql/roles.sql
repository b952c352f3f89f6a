-- The roles of Footfall in PostgreSQL: the owner migrates, the service only counts, a report only reads.
-- Not a migration: an administrator runs it, in the database of Footfall, before the first `footfall migrate`,
-- which needs the owner, and once more after it, for the rights on the tables; later after each upgrade.
-- It may run at any time, and as often as one likes.
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

    -- Nobody else of this server looks into the database, or makes tables in it.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO footfall_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO footfall_service, footfall_report', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- footfall_report is a group: GRANT footfall_report TO the login of whoever makes reports.
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
    -- Days are never deleted.
    GRANT SELECT, INSERT, UPDATE ON footfall.site_day TO footfall_service;
    -- The journal is never changed, and PostgreSQL itself notes who wrote into it, and when.
    GRANT SELECT, INSERT (site, id, amount, reason) ON footfall.adjustment TO footfall_service;
    -- Events are never changed either; PostgreSQL dates them.
    GRANT SELECT, INSERT (site, kind, detail) ON footfall.event TO footfall_service;
    -- Salts are destroyed after their week, and never replaced.
    GRANT SELECT, INSERT, DELETE ON footfall.salt TO footfall_service;

    GRANT SELECT ON footfall.report_day TO footfall_report;
END
$$;
