"""An nginx that answers every query by itself: the most that any stack behind it could do."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bare import BODY
from processes import free_ports, unprivileged_user
from proxy import Nginx
from stack import is_healthy

START_LIMIT = 30.0  # seconds


@contextlib.contextmanager
def constant_nginx(folder: Path) -> Iterator[str]:
    """URL of an nginx with the stack's main configuration that answers BODY."""
    port = free_ports(1)[0]
    nginx = Nginx(
        folder / "constant",
        folder / "constant.log",
        listen=f"127.0.0.1:{port}",
        upstreams=["127.0.0.1:1"],
        environ=os.environ | {"EDGE_CACHE": "off"},
        run_as=unprivileged_user(),
    )
    nginx.render()
    (nginx.folder / "default.conf").write_text(
        "server {\n  include listen.conf;\n  default_type application/json;\n"
        f"  location / {{ return 200 '{BODY.decode().strip()}\\n'; }}\n}}\n"
    )
    with contextlib.ExitStack() as running:
        nginx.start()
        running.callback(nginx.stop)
        nginx.wait_until(lambda: is_healthy("127.0.0.1", port), START_LIMIT)
        yield f"http://127.0.0.1:{port}"
