"""Checks the settings, then becomes gunicorn: `python start.py wsgi:app`.

gunicorn by itself reads WEB_CONCURRENCY before its configuration file and answers a bad one with a
traceback.
"""

import os
import sys
from pathlib import Path

from config import ConfigError, load_settings


def main() -> None:
    """Run gunicorn with this program's arguments; exits with 2 at a bad variable."""
    try:
        settings = load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    os.environ["WEB_CONCURRENCY"] = str(settings.web_concurrency)  # gunicorn takes no empty one
    configuration = str(Path(__file__).with_name("gunicorn.conf.py"))
    program = [sys.executable, "-m", "gunicorn", "-c", configuration]
    os.execv(program[0], [*program, *sys.argv[1:]])  # noqa: S606 - without a shell on purpose


if __name__ == "__main__":
    main()
