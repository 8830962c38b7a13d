-- The schema of the weather data, all of it. data-populator runs it section by section: the tables
-- before it copies rows, the indexes after it, both at once. `psql -f schema.sql` makes what is
-- missing and builds the indexes anew. Who may read it: populator/account.py.

-- section: tables

CREATE TABLE IF NOT EXISTS weather_data (
    id integer NOT NULL,
    location text COLLATE "C" NOT NULL,      -- compares as bytes: sorts 3 times as fast
    temperature double precision NOT NULL,   -- degC
    humidity double precision NOT NULL,      -- percent
    wind_speed double precision NOT NULL,    -- metres per second
    timestamp timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS weather_locations (
    location text COLLATE "C" PRIMARY KEY,
    records integer NOT NULL,
    temperature_sum numeric NOT NULL         -- degC, the generator's own, not added up by SQL
);

-- The ledger: what the first load fixed, what was promised since, and which rows are in.

CREATE TABLE IF NOT EXISTS weather_load (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seed bigint NOT NULL,
    cities text[] NOT NULL,                  -- as drawn, so that a newer Faker changes nothing
    period_end timestamptz NOT NULL,         -- the newest timestamp's bound
    served_records integer NOT NULL DEFAULT 0  -- rows when indexes and statistics were last made
);

CREATE TABLE IF NOT EXISTS weather_load_segments (
    first_id integer PRIMARY KEY,
    last_id integer NOT NULL
);

-- It makes the load exactly-once: a batch claims its ids here and copies its rows in the same
-- transaction, and no two batches may overlap. A second claimant waits for the first one's
-- transaction: if that commits, the rows are there; if it dies, the claim is free again.
CREATE TABLE IF NOT EXISTS weather_load_batches (
    ids int8range NOT NULL,
    EXCLUDE USING gist (ids WITH &&)
);

-- What data-query found right, row by row, when the tables were in this state. While they still are,
-- no start has to read all rows again.
CREATE TABLE IF NOT EXISTS weather_full_check (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    state text NOT NULL,
    checked_at timestamptz NOT NULL
);

-- Without the extension (a role that may not create it) every check is a full one.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_visibility;
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
    NULL;
END $$;

-- A text that differs after any change of the tables' rows; NULL where PostgreSQL can't tell. It asks
-- the freeze map (2 bits a page), not the rows: a change of a row takes its page off the map, and a
-- VACUUM that puts it back moves relfrozenxid. Both survive a crash, unlike the statistics' counters.
-- Two COPYs at once leave pages that never held a row, and these are not on the map.
CREATE OR REPLACE FUNCTION weather_state() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    map regprocedure := to_regprocedure('pg_visibility_map(regclass)');
    frozen bigint;
    others bigint[];
    page bigint;
BEGIN
    IF map IS NULL OR NOT has_function_privilege(map, 'EXECUTE') THEN
        RETURN NULL;
    END IF;
    SELECT count(*) FILTER (WHERE all_frozen), array_agg(blkno) FILTER (WHERE NOT all_frozen)
    INTO frozen, others FROM pg_visibility_map('weather_data');
    FOREACH page IN ARRAY coalesce(others, '{}') LOOP
        IF EXISTS (SELECT FROM weather_data WHERE ctid >= format('(%s,0)', page)::tid
                   AND ctid < format('(%s,0)', page + 1)::tid) THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN concat_ws(' ',
        frozen,
        (SELECT relfrozenxid FROM pg_class WHERE oid = 'weather_data'::regclass),
        (SELECT string_agg(pg_relation_filenode(indexrelid)::text, ',' ORDER BY indexrelid)
         FROM pg_index WHERE indrelid = 'weather_data'::regclass),
        pg_relation_filenode('weather_data'),
        (SELECT md5(string_agg(w::text, '')) FROM weather_load AS w),
        (SELECT md5(string_agg(w::text, '' ORDER BY first_id)) FROM weather_load_segments AS w),
        (SELECT md5(string_agg(w::text, '' ORDER BY location)) FROM weather_locations AS w));
END $$;

-- Called by data-query, whose role may write nothing itself: it can only claim the present state.
CREATE OR REPLACE FUNCTION weather_record_full_check(seen text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO weather_full_check (state, checked_at)
    SELECT seen, now() WHERE seen = weather_state()
    ON CONFLICT (only_row) DO UPDATE SET state = excluded.state, checked_at = excluded.checked_at;
    RETURN FOUND;
END $$;

REVOKE EXECUTE ON FUNCTION weather_state(), weather_record_full_check(text) FROM PUBLIC;

-- section: drop indexes

ALTER TABLE weather_data DROP CONSTRAINT IF EXISTS weather_data_pkey;
DROP INDEX IF EXISTS weather_data_pkey, weather_data_location_temperature;

-- The table only grows, by whole loads: full pages are less to write, and no slower to add to.

-- section: id index

CREATE UNIQUE INDEX IF NOT EXISTS weather_data_pkey ON weather_data (id)
WITH (fillfactor = 100);

-- section: covering index

-- A location's average is read from this index alone.
CREATE INDEX IF NOT EXISTS weather_data_location_temperature ON weather_data (location)
INCLUDE (temperature) WITH (fillfactor = 100);

-- section: primary key

-- ADD PRIMARY KEY (id) would lock the table and so build one index after the other.
ALTER TABLE weather_data ADD PRIMARY KEY USING INDEX weather_data_pkey;
