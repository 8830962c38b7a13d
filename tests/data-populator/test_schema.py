"""schema.sql as a whole, as people and other tests run it."""

from contextlib import closing

from databases import create_schema
from populating import populate

DEFINITIONS = """
SELECT concat_ws(' ', table_name, column_name, data_type, collation_name, is_nullable,
                 column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT concat_ws(' ', oid::regprocedure, prosrc, prosecdef, proconfig)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
ORDER BY 1
"""


def test_the_whole_file_makes_what_the_populator_makes(database, databases):
    loaded = databases.make()
    try:
        assert populate(loaded, TOTAL_RECORDS=1000)[0] == 0
        with closing(database.connect()) as connection:
            create_schema(connection)
        assert database.rows(DEFINITIONS) == loaded.rows(DEFINITIONS)
    finally:
        databases.drop(loaded)
