-- What an honest report about a site must mention, and what is no correction of its total: alarms stood in
-- footfall.adjustment as zero amounts, where they changed the public revision of the numbers.

CREATE TABLE footfall.event (
    site   text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),    -- when the first worker recorded it
    kind   text        NOT NULL,                  -- a word of the program's, such as salt_lost
    detail text        NOT NULL,                  -- what it is about; the same kind and detail is one event
    PRIMARY KEY (site, kind, detail)
);
