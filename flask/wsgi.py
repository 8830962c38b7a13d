"""What gunicorn serves, `wsgi:app`, and the way to start it: `python wsgi.py [gunicorn's options]`.

The order of a start: main() checks the settings and becomes gunicorn, which reads gunicorn.conf.py;
there on_starting() checks the connection budget; each worker then makes the application below.
"""

import logging
import os
import sys
from pathlib import Path

from weather import shared_metrics
from weather.environment import ConfigError
from weather.settings import load_settings
from weather.waiting import UnavailableError


def main() -> None:
    """Run gunicorn with this program's arguments, until a signal; exits with 2 at a bad variable.

    gunicorn by itself reads WEB_CONCURRENCY at its import and answers a bad one with a traceback.
    """
    try:
        settings = load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    os.environ["WEB_CONCURRENCY"] = str(settings.web_concurrency)  # gunicorn takes no empty one
    shared_metrics.prepare(settings.web_concurrency)
    from gunicorn.app import wsgiapp

    import weather.factory  # noqa: F401 - before the fork, so that workers share its memory

    configuration = Path(__file__).with_name("gunicorn.conf.py")
    sys.argv[1:] = ["--config", str(configuration), *sys.argv[1:]]
    wsgiapp.run()


if __name__ == "__main__":
    main()
else:
    from weather.factory import create_app  # not above: main() comes before it

    app = create_app(load_settings())
    try:
        app.extensions["database"].warm_up()
    except UnavailableError as error:
        # PostgreSQL may come up later than this process; the pool connects when requests need it.
        logging.getLogger("gunicorn.error").warning("serving without PostgreSQL for now: %s", error)
