-- The ids of a day's visitors while they are few, and whether its number of visitors is exact. The ids go when the key
-- that made them is destroyed, two hours after their week; that the number is exact stays for ever.

ALTER TABLE footfall.site_day ADD COLUMN ids bytea;          -- 16 bytes each, in order; NULL = not kept
ALTER TABLE footfall.site_day ADD COLUMN ids_checksum bytea; -- of ids, visitors and logs, 16 bytes
ALTER TABLE footfall.site_day ADD COLUMN exact boolean NOT NULL DEFAULT false; -- whether visitors is no estimate
-- They are hashes, which do not compress.
ALTER TABLE footfall.site_day ALTER COLUMN ids SET STORAGE EXTERNAL;

-- A checksum that stays while the logs or the visitors change: an older version of the service, or a correction by hand,
-- has written the day. Its ids may not be all of them then, and its number may be an estimate.
CREATE FUNCTION footfall.guard_exact() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.visitors, NEW.logs) IS DISTINCT FROM (OLD.visitors, OLD.logs)
        AND NEW.ids_checksum IS NOT DISTINCT FROM OLD.ids_checksum
    THEN
        NEW.ids := NULL;
        NEW.ids_checksum := NULL;
        NEW.exact := false;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_exact BEFORE UPDATE ON footfall.site_day
    FOR EACH ROW EXECUTE FUNCTION footfall.guard_exact();

-- What a stolen password of the service must not do with them.
CREATE FUNCTION footfall.guard_ids() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    IF octet_length(NEW.ids) > 16 * 32768 OR octet_length(NEW.ids) % 16 <> 0 OR octet_length(NEW.ids_checksum) > 16
        OR NEW.exact AND octet_length(NEW.ids) / 16 <> NEW.visitors
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'footfall: these are not the ids of a day';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_ids BEFORE INSERT OR UPDATE ON footfall.site_day
    FOR EACH ROW EXECUTE FUNCTION footfall.guard_ids();
