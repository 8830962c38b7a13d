"""One cell that is measured from inside the cluster on AWS: what is asked for, its end, its folder.

There the stack is seen from outside alone: nobody looks at its processes, its replicas or nginx's
log. Locust's part of it is record_in_cluster.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab import judge, recording, report, sampling
from lab.cell import RAMP_SLACK, Lines, Stretch, cell
from lab.kept import Results
from lab.plan import LEVERS, Plan, Setting
from page.environment import Environ, bad_value, read_choice, read_integer
from users.patterns import PATTERNS

MOST = 1_000_000  # users, workers, seconds


class NobodyCameError(Exception):
    """There is nothing to keep; the text is one line for the user."""


@dataclass(frozen=True)
class Deployed:
    """The stack, as Terraform describes it."""

    revision: str  # tag of the images
    rows: int
    setting: Setting
    machine: Mapping[str, Any]  # region, tasks, classes of database and cache

    @classmethod
    def from_json(cls, text: str) -> "Deployed":
        """Raises ConfigError."""
        try:
            found = json.loads(text)
            setting = Setting(**found["setting"])
            return cls(found["revision"], found["rows"], setting, found["machine"])
        except (ValueError, TypeError, KeyError) as error:
            expected = "JSON with revision, rows, setting and machine"
            raise bad_value("EXPERIMENT_STACK", text, expected) from error

    @property
    def lever(self) -> str:
        """What the report calls the setting; how many replicas there are, the machine tells."""
        alike = (
            name
            for name, lever in LEVERS.items()
            if replace(self.setting, replicas=lever.replicas) == lever
        )
        return next(alike, self.setting.words)


@dataclass(frozen=True)
class Experiment:
    """What is measured, and where the results go."""

    users: int
    pattern: str
    workers: int  # of Locust
    spawn_rate: int  # users/s
    warm_up: int  # seconds
    seconds: int  # of the window
    results: str  # s3://BUCKET/FOLDER
    stack: Deployed

    @classmethod
    def from_env(cls, environ: Environ) -> "Experiment":
        """Raises ConfigError for a variable that is missing or can't be used."""
        numbers = {
            name: read_integer(environ, f"EXPERIMENT_{name.upper()}", 0, 1, MOST)
            for name in ("users", "workers", "spawn_rate", "warm_up", "seconds")
        }
        results = environ.get("EXPERIMENT_RESULTS", "")
        if not re.fullmatch("s3://[^/]+/.*[^/]", results):
            raise bad_value("EXPERIMENT_RESULTS", results, "s3://BUCKET/FOLDER")
        return cls(
            **numbers,
            pattern=read_choice(environ, "EXPERIMENT_PATTERN", "", list(PATTERNS)),
            results=results,
            stack=Deployed.from_json(environ.get("EXPERIMENT_STACK", "")),
        )

    @property
    def command(self) -> str:
        """What measures it again."""
        options = f"--users {self.users} --pattern {self.pattern} --spawn-rate {self.spawn_rate}"
        options += f" --warm-up {self.warm_up} --seconds {self.seconds}"
        return f'make aws-experiment ARGS="{options}"'

    @property
    def plan(self) -> Plan:
        """As a run of cells has it: nothing is shuffled, and nothing searched."""
        return Plan(
            kind="cells",
            target="aws",
            rows=self.stack.rows,
            seed=0,
            processes=self.workers,
            spawn_rate=self.spawn_rate,
            warm_up=self.warm_up,
            seconds=self.seconds,
            precision=0.0,
            most_users=self.users,
            settings={},
            revision=self.stack.revision,
            machine=dict(self.stack.machine),
        )


def stretch(lines: Lines, experiment: Experiment) -> Stretch | None:
    """When the users came and were measured, as far as it is known; None before the first one.

    If not all come in time, those who are there are measured.
    """
    busy = [line for line in lines if line["users"]]
    if not busy:
        return None
    begins = busy[0]["time"] - busy[0]["seconds"]
    latest = begins + experiment.users / experiment.spawn_rate + RAMP_SLACK
    complete = (line["time"] for line in busy if line["users"] >= experiment.users)
    arrived = min(next(complete, latest), latest)
    starts = arrived + experiment.warm_up
    return Stretch(begins, arrived, starts, starts + experiment.seconds)


def is_over(lines: Lines, experiment: Experiment, running: float) -> bool:
    """Whether the window has ended, or nobody came; ``running`` is how long Locust has, in s."""
    times = stretch(lines, experiment)
    if times is None:
        return running > RAMP_SLACK
    return lines[-1]["time"] >= times.ends - sampling.TICK / 2


def progress(lines: Lines, experiment: Experiment) -> str:
    """How it goes, from the latest lines."""
    there = f"{lines[-1]['users']:,} of {experiment.users:,} users"
    return f"{there}: {recording.in_words(recording.summary(lines))}"


def keep(lines: Lines, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Write what every run keeps, its report, and the recording; returns the cell.

    Raises NobodyCameError.
    """
    times = stretch(lines, experiment)
    if times is None:
        raise NobodyCameError("no user came: the workers' log says why")
    found = {"users": experiment.users, "rate": 0, "start": "warm"} | cell(lines, [], times)
    found |= {"cpu": _cpu_of_generator(lines, times), "nginx": None}
    found["flags"] = judge.flags(found)
    found["invalid"] = judge.invalid(found, experiment.workers, experiment.seconds)
    found["took"] = times.ends - times.begins
    session = {"lever": experiment.stack.lever, "setting": asdict(experiment.stack.setting)}
    session |= {"pattern": experiment.pattern, "repeat": 1}
    results = Results(folder, experiment.plan, experiment.command)
    results.start({"locust": version("locust")})
    results.keep("cells", f"{experiment.pattern}_{experiment.users}-users", session, found)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "recording.jsonl").write_text(text)
    report.write(folder)
    return found


def _cpu_of_generator(lines: Lines, times: Stretch) -> dict[str, dict[str, float]]:
    """As sampling.cpu() has it, from what Locust's processes say of themselves."""
    samples = []
    for line in lines:
        workers = line["worker_cpu_seconds"].values()
        spent = {"generator": line["cpu_seconds"] - sum(workers)}
        spent |= {f"generator {n}": seconds for n, seconds in enumerate(workers, 1)}
        samples.append({"time": line["time"], "cpu_seconds": spent})
    return sampling.cpu(sampling.between(samples, times.starts, times.ends))
