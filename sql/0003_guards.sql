-- What a stolen password of the service must not do: days only grow, by the rule of the merge, and no amount is so large
-- that a sum overflows. Before, the service's role could rewrite closed days, and one correction of 9 * 10^18 stopped the
-- copies of its site for ever. The owner of the tables may do what it likes: corrections by hand, restores, imports.

-- 2^53 - 1: pages and Redis store larger whole numbers only in steps. NOT VALID: rows that are here already may stay.
ALTER TABLE footfall.adjustment ADD CONSTRAINT amount_is_bounded
    CHECK (amount BETWEEN -9007199254740991 AND 9007199254740991) NOT VALID;
ALTER TABLE footfall.site_day ADD CONSTRAINT counts_are_bounded
    CHECK (visitors BETWEEN 0 AND 9007199254740991 AND views BETWEEN 0 AND 9007199254740991) NOT VALID;

-- Raises insufficient_privilege for what is no merge. Names are looked up in pg_catalog only: the role sets its own path.
CREATE FUNCTION footfall.guard_day() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most   CONSTANT numeric := 9007199254740991;
    before numeric := 0;                          -- views of the row so far
    summed numeric;                               -- views of the logs
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    -- The form that every reader of the logs relies on: a value that it cannot read would stop the copies of the site.
    IF jsonb_typeof(NEW.logs) <> 'object' OR EXISTS (
        SELECT FROM jsonb_each(NEW.logs) AS log
        WHERE log.key !~ '^[0-9A-Za-z_~-]{1,64}$' OR log.value::text !~ '^\[[0-9]{1,15}, [0-9]{1,15}\]$'
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: these are no batch logs';
    END IF;
    IF octet_length(NEW.sketch) > 16384 OR octet_length(NEW.checksum) > 16 THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: this is no sketch';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.site, NEW.day) IS DISTINCT FROM (OLD.site, OLD.day)
            OR NEW.visitors < LEAST(OLD.visitors, most)
            OR NOT footfall.covers(NEW.logs, OLD.logs)
            OR (OLD.sketch IS NULL AND NEW.sketch IS NOT NULL)
        THEN
            RAISE insufficient_privilege USING MESSAGE = 'footfall: a day only grows, by the rule of the merge';
        END IF;
        before := LEAST(OLD.views, most);
    END IF;
    SELECT COALESCE(sum((log.value ->> 1)::numeric), 0) INTO summed FROM jsonb_each(NEW.logs) AS log;
    IF NEW.views <> LEAST(GREATEST(before, summed), most) THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: the views of a day are those of its logs';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_day BEFORE INSERT OR UPDATE ON footfall.site_day
    FOR EACH ROW EXECUTE FUNCTION footfall.guard_day();
