"""What stands in observe/'s files fits together, and its README says so."""

import configparser
import re
from pathlib import Path

import pytest
import yaml
from dashboards import FOLDER, LABEL_VALUES, load

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "observe"
DASHBOARDS = sorted(path.stem for path in FOLDER.glob("*.json"))
SCHEMA_VERSION = 42  # Grafana 12.4: its dashboard_kind.cue
GRID = 24
TEXT, NUMBER, FLAG, LIST, OBJECT = str, int, bool, list, dict
# The fields of that schema that are used here, with their types; all are needed.
FIELDS = {
    "dashboard": {
        **dict.fromkeys(["uid", "title", "description", "refresh", "timezone"], TEXT),
        **dict.fromkeys(["schemaVersion", "version", "graphTooltip"], NUMBER),
        **dict.fromkeys(["tags", "links", "panels"], LIST),
        **dict.fromkeys(["time", "templating", "annotations"], OBJECT),
        "editable": FLAG,
    },
    "panel": {
        **dict.fromkeys(["type", "title", "description"], TEXT),
        **dict.fromkeys(["datasource", "fieldConfig", "options", "gridPos"], OBJECT),
        "id": NUMBER,
        "targets": LIST,
    },
    "target": {**dict.fromkeys(["refId", "expr", "legendFormat"], TEXT), "datasource": OBJECT},
    "variable": {
        **dict.fromkeys(["name", "label", "type"], TEXT),
        **dict.fromkeys(["datasource", "query", "current"], OBJECT),
        **dict.fromkeys(["refresh", "sort"], NUMBER),
        **dict.fromkeys(["multi", "includeAll"], FLAG),
    },
}


def read(path):
    return yaml.safe_load((OBSERVE / path).read_text())


def assert_has_fields(kind, part):
    assert {name: type(value) for name, value in part.items()} == FIELDS[kind]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_has_the_schema_s_fields(name):
    dashboard = load(name)
    assert_has_fields("dashboard", dashboard)
    assert dashboard["schemaVersion"] == SCHEMA_VERSION
    for variable in dashboard["templating"]["list"]:
        assert_has_fields("variable", variable)
        assert LABEL_VALUES.fullmatch(variable["query"]["query"])
    for panel in dashboard["panels"]:
        assert_has_fields("panel", panel)
        assert panel["type"] in ("stat", "timeseries")
        for target in panel["targets"]:
            assert_has_fields("target", target)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_grid_without_overlap(name):
    taken = set()
    panels = load(name)["panels"]
    for panel in panels:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= GRID
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_dashboards_name_the_provisioned_source_and_each_has_its_own_id():
    (source,) = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert (
        source["jsonData"]["timeInterval"]
        == read("prometheus/prometheus.yml")["global"]["scrape_interval"]
    )
    boards = [load(name) for name in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        parts = [*board["panels"], *board["templating"]["list"]]
        parts += [target for panel in board["panels"] for target in panel["targets"]]
        assert {(p["datasource"]["type"], p["datasource"]["uid"]) for p in parts} == {
            (source["type"], source["uid"])
        }


def test_the_image_holds_what_grafana_is_told_to_read():
    dockerfile = (OBSERVE / "grafana/Dockerfile").read_text()
    copied = dict(re.findall(r"^COPY (\w+) (\S+)$", dockerfile, re.M))
    assert copied["provisioning"] == "/etc/grafana/provisioning"
    (provider,) = read("grafana/provisioning/dashboards/dashboards.yaml")["providers"]
    assert provider["options"]["path"] == copied["dashboards"]
    settings = configparser.ConfigParser()
    settings.read(OBSERVE / "grafana/grafana.ini")
    home = Path(settings["dashboards"]["default_home_dashboard_path"])
    assert home.parent == Path(copied["dashboards"])
    assert home.stem in DASHBOARDS
    assert settings["auth.anonymous"]["org_role"] == "Viewer"


def table(first_header):
    """The first cell of each row below a header that begins so."""
    text = (OBSERVE / "README.md").read_text()
    (rows,) = re.findall(rf"^\| {first_header} \|.*\n\|[- |]+\n((?:\|.*\n)+)", text, re.M)
    return re.findall(r"^\| `?([^`|]+?)`? \|", rows, re.M)


def test_readme_lists_dashboards_jobs_and_alerts():
    jobs = [job["job_name"] for job in read("prometheus/prometheus.yml")["scrape_configs"]]
    rules = [rule for group in read("prometheus/rules.yml")["groups"] for rule in group["rules"]]
    assert sorted(table("dashboard")) == sorted(load(name)["title"] for name in DASHBOARDS)
    assert table("job") == jobs
    assert table("alert") == [rule["alert"] for rule in rules if "alert" in rule]
