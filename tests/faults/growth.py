"""What is right while a table grows: the averages after each batch that came."""

from collections.abc import Mapping
from contextlib import closing
from decimal import ROUND_HALF_UP, Decimal

from databases import connect

# What each location got by each batch of the growth; 0 stands for the rows it had before.
PIECES = """
SELECT location, width_bucket(id, batches), count(*), sum(temperature::numeric)
FROM weather_data, (SELECT array_agg(lower(ids)::integer ORDER BY ids) AS batches
                    FROM weather_load_batches WHERE lower(ids) > %s) AS growth
GROUP BY 1, 2 ORDER BY 1, 2
"""


def committed_truths(
    environ: Mapping[str, str], rows_before: int
) -> dict[str, set[tuple[Decimal, int]]]:
    """Every location's averages and records after any of the batches that hold rows of it.

    A batch commits as a whole, and the two streams commit in no order.
    """
    sums = {}
    with closing(connect(environ)) as connection, connection.cursor() as cursor:
        cursor.execute(PIECES, (rows_before,))
        for location, batch, records, total in cursor:
            if batch == 0:
                sums[location] = {(total, records)}
            else:
                sums[location] |= {(s + total, n + records) for s, n in sums[location]}
    return {location: {_truth(*one) for one in states} for location, states in sums.items()}


def _truth(total: Decimal, records: int) -> tuple[Decimal, int]:
    return (total / records).quantize(Decimal("0.01"), ROUND_HALF_UP), records
