"""The numbers in terraform/README.md are those of the formulas beside them."""

import re
from math import ceil

import pytest
from emulated_aws import CONFIGURATION

README = (CONFIGURATION / "README.md").read_text()


def table(first_row):
    """Cells of the rows below the one that begins with `first_row`."""
    rows = README.split(f"\n{first_row}")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def value(cell, names=()):
    """Value and name of a cell such as `a = 2 * b`."""
    name, _, formula = cell.strip("`").rpartition(" = ")
    allowed = {"ceil": ceil, "max": max, **dict(names)}
    return eval(formula, {"__builtins__": {}}, allowed), name  # noqa: S307 our own README


def number(cell):
    return float(cell.strip("*").replace(",", ""))


COSTS = table("| | price an hour |")
ROWS = COSTS[: [row[0] for row in COSTS].index("**together**")]
INPUTS = {name[1]: number(given) for name, given, _ in table("| input | value |")}
SCALE = table("| users | `users` |")


@pytest.mark.parametrize("row", [row for row in COSTS if row[1]], ids=lambda row: row[0])
def test_cost_of_a_day(row):
    price, _ = value(row[1])
    for count, day in (row[3:5], row[5:7]):
        assert bool(count) == bool(day)
        if count:
            assert f"{number(count) * 24 * price:.2f}" == day


@pytest.mark.parametrize("column", [3, 5])
def test_costs_together(column):
    exact = sum(number(row[column]) * 24 * value(row[1])[0] for row in ROWS if row[column])
    [together] = [row for row in COSTS if row[0] == "**together**"]
    assert together[column + 1] == f"**{exact:.2f}**"


def test_what_a_stopped_stack_costs():
    goes_on = ("RDS: GiB", "ElastiCache", "load balancer", "NAT gateway", "public IPv4", "secret")
    rows = [row for row in ROWS if row[0].startswith(goes_on)]
    assert len(rows) == len(goes_on)
    stopped = sum(number(row[3]) * 24 * value(row[1])[0] for row in rows)
    [together] = [row for row in COSTS if row[0] == "**together**"]
    assert f"of {together[4].strip('*')} dollars a day {stopped:.2f} go on" in README


@pytest.mark.parametrize("row", table("| | amount | price |"), ids=lambda row: row[0])
def test_cost_of_an_hour_of_load(row):
    assert f"{value(row[1])[0] * value(row[2])[0]:.2f}" == row[4]


def test_every_price_has_a_source():
    rows = [row[2] for row in COSTS if row[1]] + [row[3] for row in table("| | amount | price |")]
    listed = re.findall(r"^(\d+)\. ", README[README.index("## Costs") :], re.M)
    assert set(rows) == set(listed)


@pytest.mark.parametrize("column", [2, 3, 4])
def test_scale(column):
    heading = README.split("\n| users | `users` |")[1].splitlines()[0].split("|")
    names = INPUTS | {"users": number(heading[column - 2].strip())}
    for row in SCALE:
        result, name = value(row[1], names)
        names[name] = result
        assert f"{result:,.0f}" == row[column], row[0]


def test_costs_and_example_for_10000_users_follow_from_scale():
    scale = {row[0]: row[2] for row in SCALE}
    flask, nginx = (
        scale["flask tasks, edge cache off"],
        scale["nginx tasks of 1 vCPU, edge cache off"],
    )
    workers = scale["Locust workers of 1 vCPU, at 1,000 requests/s each"]
    example = (CONFIGURATION / "terraform.tfvars.example").read_text()
    settings = dict(re.findall(r"^# (\w+) += (\d+)$", example, re.M))
    assert settings["flask_count"] == flask
    assert settings["nginx_count"] == nginx
    assert settings["locust_workers"] == workers
    costs = {row[0].split(":")[0]: row[5] for row in COSTS}  # the last nginx is the larger one
    assert (costs["flask"], costs["nginx"]) == (flask, nginx)
    assert int(costs["Locust"]) == int(workers) + 1


def test_the_autoscaling_aims_at_the_planned_capacity():
    variables = (CONFIGURATION / "variables.tf").read_text()
    aim = re.search(r'variable "flask_target_requests" \{.*?default += (\d+)', variables, re.S)[1]
    assert int(aim) == 0.75 * INPUTS["R"] * 60
    cpu = re.search(r'variable "target_cpu" \{.*?default += (\d+)', variables, re.S)[1]
    assert int(cpu) == 75  # both aims ask for the same number of tasks


def test_the_quota_in_readme_is_that_of_the_plan():
    scale = {row[0]: row[2] for row in SCALE}
    need = scale["vCPU on Fargate, edge cache off, with Locust and a job"]
    assert f"and 10,000 users {need} ([Scale](#scale))" in README
