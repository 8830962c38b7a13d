"""What gunicorn serves: `python start.py wsgi:app`."""

import logging

from app import create_app
from config import load_settings
from waiting import UnavailableError

app = create_app(load_settings())
try:
    app.extensions["database"].warm_up()
except UnavailableError as error:
    # PostgreSQL may come up later than this process; the pool connects when requests need it.
    logging.getLogger("gunicorn.error").warning("serving without PostgreSQL for now: %s", error)
