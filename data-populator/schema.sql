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
