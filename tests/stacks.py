"""The whole local stack for a test, with its data in a folder that goes with it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack import Stack


@contextmanager
def running_stack(**settings: object) -> Iterator[Stack]:
    """A stack on a free port, with these variables beside the shell's; stopped afterwards."""
    environ = os.environ | {name: str(value) for name, value in settings.items()}
    # not pytest's tmp_path: as root, the servers run as another user, who may not enter that
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)
        with Stack(folder, environ | {"NGINX_PORT": "0"}) as stack:
            yield stack
