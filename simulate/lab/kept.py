"""The folder that a run keeps its results in: its plan, cells and searches."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.machine import now
from lab.plan import Plan, PlanError


class Results:
    """The folder of a run: its plan, cells and searches."""

    def __init__(self, folder: Path, plan: Plan, command: str) -> None:
        """Raises PlanError for a folder with another plan, machine or revision."""
        self.folder = folder
        self.plan = plan
        self._command = command
        path = folder / "plan.json"
        if path.exists():
            differences = plan.differences(json.loads(path.read_text()))
            if differences:
                what = ", ".join(differences)
                raise PlanError(f"{folder} was measured with another {what}: choose another --out")

    def start(self, versions: dict[str, str]) -> None:
        """Keep the plan, when the first stack runs."""
        path = self.folder / "plan.json"
        if not path.exists():
            _write(path, {"command": self._command, **asdict(self.plan), "versions": versions})

    def known(self, kind: str, name: str) -> dict[str, Any] | None:
        """A cell or search that is there and valid."""
        path = self.folder / kind / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else None
        return None if result is None or result["invalid"] else result

    def keep(
        self, kind: str, name: str, session: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """``kind`` is cells or searches; ``session`` says of what: see Session.facts."""
        origin = {"revision": self.plan.revision, "machine": self.plan.machine}
        _write(
            self.folder / kind / f"{name}.json",
            {**session, **result, **origin, "measured_at": now()},
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(_rounded(content)) + "\n")
    os.replace(unfinished, path)


def _rounded(value: Any) -> Any:
    """Six digits of each number: no measurement has more, and a kept folder is half as large."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
