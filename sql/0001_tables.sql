-- The tables of Footfall. Redis holds what is live; here is what must last: days, adjustments, and who we are.
-- Migrations only add: an older program keeps working on a newer schema.

CREATE TABLE footfall.installation (
    id       text        NOT NULL,                -- Redis carries the same id: a foreign Redis is never counted into
    made_at  timestamptz NOT NULL DEFAULT now(),
    only_one boolean     PRIMARY KEY DEFAULT true CHECK (only_one)
);
INSERT INTO footfall.installation (id) VALUES (replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE footfall.site_day (
    site     text   NOT NULL,
    day      date   NOT NULL,                     -- calendar day in the site's time zone
    visitors bigint NOT NULL,                     -- estimate of the sketch (standard error 0.81 %)
    views    bigint NOT NULL,                     -- page views, exact: the sum over the logs
    sketch   bytea,                               -- HyperLogLog as Redis stores it; NULL once confirmed and old
    checksum bytea,                               -- of the sketch, 16 bytes
    logs     jsonb  NOT NULL,                     -- {"log id": [number, views], ...}
    PRIMARY KEY (site, day)
);
-- Sketches hardly compress once dense, and they are rewritten every few seconds.
ALTER TABLE footfall.site_day ALTER COLUMN sketch SET STORAGE EXTERNAL;

CREATE TABLE footfall.adjustment (
    site    text        NOT NULL,
    id      text        NOT NULL,                 -- chosen by the operator; the same id counts once
    amount  bigint      NOT NULL,
    reason  text        NOT NULL,
    made_by text        NOT NULL DEFAULT current_user,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site, id)
);

-- UNLOGGED keeps the keys of the visitor hash out of the write-ahead log, base backups and replicas.
-- A crash empties it; Redis fills it again.
CREATE UNLOGGED TABLE footfall.salt (
    site text  NOT NULL,
    week date  NOT NULL,                          -- the Monday
    key  bytea NOT NULL,
    PRIMARY KEY (site, week)
)
-- A deleted row stays in the file until it is vacuumed, which a table this small would hardly ever be.
WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);

CREATE VIEW footfall.report_day AS
    SELECT site, day, visitors, views FROM footfall.site_day;
COMMENT ON VIEW footfall.report_day IS 'Stable interface for reports: visitors (estimate) and page views of each site and day';

-- Whether a copy of a day holds everything that another one holds: for every log at least its number.
CREATE FUNCTION footfall.covers(copy jsonb, other jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT NOT EXISTS (
        SELECT FROM jsonb_each(other) AS log
        WHERE (log.value ->> 0)::bigint > COALESCE((copy -> log.key ->> 0)::bigint, 0)
    )
$$;
