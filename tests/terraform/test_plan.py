"""plan.py says what README.md's formulas and prices say, and what Terraform takes."""

import re
import subprocess
import sys

import pytest
from emulated_aws import CONFIGURATION, ROOT
from test_readme import COSTS, INPUTS, README, SCALE, number, table, value

from lab import results
from users.patterns import HOT_SPOTS, PATTERNS

SCRIPT = CONFIGURATION / "plan.py"
KEPT = results.load(ROOT / "simulate" / "results" / "capacity")
# Of the inputs of README's Scale, by their letters.
FORMULAS = {
    name[1]: re.match(r"`([^`]+)`", kept)[1] for name, _, kept in table("| input | value |")
}


def run(*options):
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)


def settings(*options):
    """What a plan sets, and its comments."""
    result = run(*options)
    assert result.returncode == 0, result.stderr
    return dict(re.findall(r"^(\w+) += (.+)$", result.stdout, re.M)), result.stdout


def scale(column):
    return {row[0]: number(row[column]) for row in SCALE}


@pytest.mark.parametrize(("users", "column"), [("10,000", 2), ("100,000", 3)])
def test_tasks_are_those_of_readme(users, column):
    expected = scale(column)
    off, text = settings("--users", users)
    assert int(off["flask_count"]) == expected["flask tasks, edge cache off"]
    assert int(off["nginx_count"]) == expected["nginx tasks of 1 vCPU, edge cache off"]
    workers = "Locust workers of 1 vCPU, at 1,000 requests/s each"
    assert int(off["locust_workers"]) == expected[workers]
    vcpu = expected["vCPU on Fargate, edge cache off, with Locust and a job"]
    assert f"# vCPU on Fargate: {vcpu:.0f};" in text
    on, _ = settings("--users", users, "--edge-cache")
    assert int(on["flask_count"]) == expected["flask tasks, edge cache on"]
    assert int(on["nginx_count"]) == expected["nginx tasks of 1 vCPU, edge cache on"]


def test_a_million_users_need_the_edge_cache():
    result = run("--users", "1000000")
    assert result.returncode == 1
    assert "expected --edge-cache" in result.stderr
    _, text = settings("--users", "1000000", "--edge-cache")
    assert f"# vCPU on Fargate: {scale(4)['the same, edge cache on']:.0f};" in text


def test_dollars_are_those_of_readme():
    [together] = [row[6] for row in COSTS if row[0] == "**together**"]
    hour = number(together) / 24
    hourly = dict(
        re.findall(r"^\| ([^|]+) \|.* (\d+\.\d\d) \|$", README.split("What each hour")[1], re.M)
    )
    load = sum(number(d) for name, d in hourly.items() if not name.startswith("users on the"))
    locust = 9 * value(COSTS[-1][1])[0]
    _, text = settings("--users", "10000", "--minutes", "60")
    idle, under_load, experiment = map(float, re.findall(r"(\d+\.\d\d)", text.split("dollars")[1]))
    assert idle == pytest.approx(hour, abs=0.01)
    assert under_load == experiment == pytest.approx(hour + load + locust, abs=0.02)


def test_the_example_is_the_plan_for_10000_users():
    plan, _ = settings("--users", "10000")
    example = (CONFIGURATION / "terraform.tfvars.example").read_text()
    set_there = dict(re.findall(r"^# (\w+) += (.+)$", example, re.M)).items() - {"locust_cidrs"}
    assert {k: v for k, v in set_there if k != "locust_cidrs"}.items() <= plan.items()


def test_inputs_are_those_of_readme_and_of_the_patterns():
    text = SCRIPT.read_text()
    assert f"\nFLASK_RATE = {INPUTS['R']:.0f} " in text
    assert f"\nEDGE_RATE = {INPUTS['E']:.0f} " in text
    assert f"\nLOCUST_RATE = {INPUTS['L']:.0f} " in text
    assert f"\nHOT_SPOTS = {len(HOT_SPOTS)} " in text
    assert all(f'"{pattern}"' in text for pattern in PATTERNS)


def per_core(lever, part):
    """Requests/s that a core of this part of the stack does at the capacity of a lever."""
    return 1000 / results.demands(KEPT.capacities[lever]["random"].knee)[part]


def measured(name):
    """What the kept run says of an input, in requests/s."""
    if name == "R":
        think_time = float(re.search(r"^THINK_TIME = ([\d.]+) ", SCRIPT.read_text(), re.M)[1])
        return KEPT.capacities["1 replica"]["random"].users.mean / think_time
    if name == "E":
        return per_core("edge cache on", "nginx")
    return per_core("default settings", "generator")


@pytest.mark.parametrize("name", FORMULAS)
def test_an_input_follows_from_the_kept_run(name):
    formula = FORMULAS[name]
    assert float(formula.split()[0]) == pytest.approx(measured(name), rel=1 / 3)
    assert INPUTS[name] == pytest.approx(value(formula)[0], rel=0.1)


def test_nginx_passes_on_about_half_of_what_its_cache_answers():
    passed_on = per_core("default settings", "nginx")
    assert passed_on == pytest.approx(per_core("edge cache on", "nginx") / 2, rel=1 / 3)


@pytest.mark.parametrize("options", [["--users", "0"], ["--users", "many"], ["--pattern", "none"]])
def test_a_wrong_option_is_refused(options):
    result = run(*options)
    assert result.returncode == 2
    assert "expected a whole number" in result.stderr or "invalid choice" in result.stderr


def test_settings_are_variables_of_terraform():
    plan, _ = settings()
    variables = (CONFIGURATION / "variables.tf").read_text()
    assert plan.keys() <= set(re.findall(r'^variable "(\w+)"', variables, re.M))
