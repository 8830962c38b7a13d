"""Compose and ECS run the same stack: every difference is deliberate and has its reason here."""

import re

import pytest
import yaml
from emulated_aws import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
BUILT = ["data-populator", "data-query", "flask", "nginx"]

# (service, what): (in Compose, on ECS, why)
DIFFERENCES = {
    ("data-populator", "more environment"): (
        set(),
        {"POSTGRES_PORT", "POSTGRES_SSLMODE"},
        "RDS is asked over a network that others share: with TLS, and at the port it names",
    ),
    ("data-query", "more environment"): (
        set(),
        {"POSTGRES_PORT", "POSTGRES_SSLMODE"},
        "as data-populator",
    ),
    ("flask", "more environment"): (
        set(),
        {"POSTGRES_PORT", "POSTGRES_SSLMODE", "REDIS_PORT", "REDIS_SSL"},
        "as data-populator, and the same for ElastiCache",
    ),
    ("flask", "X_SERVED_BY"): (
        "on",
        "off",
        "in Compose people look at how the load spreads; strangers need no names of tasks",
    ),
    ("flask", "replicas in the budget"): (
        "3",
        "15",
        "flask_max_count 10, and half as many while a deployment replaces them",
    ),
    ("flask", "health interval"): (4, 5, "ECS knows no shorter one"),
    ("nginx", "health interval"): (4, 5, "ECS knows no shorter one"),
    ("nginx", "more environment"): (
        set(),
        {"UPSTREAM_REQUESTS"},
        "behind Service Connect's one address are several replicas; in Compose each has its own",
    ),
    ("nginx", "trusted proxies"): (
        "",
        "10.0.0.0/20 10.0.16.0/20",
        "the load balancer's subnets: clients come through it",
    ),
    ("flask", "health retries"): (
        3,
        10,
        "ECS replaces what is unhealthy, and a task that is saturated for 15 s must stay",
    ),
    ("nginx", "replicas"): (1, 2, "one in each availability zone"),
    ("nginx", "upstreams"): (
        "flask:5000 flask_replica_1:5000 flask_replica_2:5000",
        "flask:5000",
        "Service Connect has one name for all tasks of a service and balances them itself",
    ),
    ("flask", "gate"): (
        {"data-query"},
        {"data-populator", "data-query"},
        "in Compose data-query itself waits for data-populator",
    ),
    ("flask", "gate of each replica"): (
        set(),
        {"data-query"},
        "tasks start at any time, long after the apply that ran the jobs",
    ),
    ("every container", "security options"): (
        ["no-new-privileges:true"],
        None,
        "Fargate has no such option; capabilities are dropped and the user is not root",
    ),
    ("prometheus", "jobs"): (
        {"flask", "nginx", "postgres", "redis", "sidecar", "locust", "prometheus"},
        {"flask", "nginx"},
        "CloudWatch has the metrics of RDS, ElastiCache and the containers by itself",
    ),
    ("db", "shared_buffers"): (
        "1GB",
        "{DBInstanceClassMemory/32768}",
        "a quarter of the memory, whatever the class; on a small machine local/ does so too",
    ),
    ("db", "max_connections"): (
        "100",
        "450",
        "as many as the class has memory for, where flask may have more tasks",
    ),
    ("redis", "engine"): (
        "redis:8-alpine",
        "valkey:8.0",
        "ElastiCache's Redis ends at 7; Valkey answers the same commands for 20 % less",
    ),
}


@pytest.fixture(scope="module")
def ecs(life):
    """Container definitions by service; the gate in flask's task is left out."""
    return {
        name: next(
            container
            for container in life.stack.definitions[name]["containerDefinitions"]
            if container["name"] == name
        )
        for name in BUILT
    }


def settings(container):
    return {pair["name"]: pair["value"] for pair in container["environment"]}


def names(container):
    return set(settings(container)) | {secret["name"] for secret in container["secrets"]}


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def last_user(service):
    """USER of the image; the nginx image inherits the one of nginx-unprivileged."""
    dockerfile = (ROOT / service / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)$", dockerfile, re.M)
    return users[-1] if users else {"nginx": "101:101"}[service]


def difference(service, what):
    compose, ecs, _ = DIFFERENCES.get((service, what), (set(), set(), ""))
    return compose, ecs


def test_every_difference_is_one_and_has_a_reason():
    for compose, ecs, reason in DIFFERENCES.values():
        assert compose != ecs
        assert reason


@pytest.mark.parametrize("service", BUILT)
def test_same_environment_names(ecs, service):
    compose = set(COMPOSE[service]["environment"])
    only_compose, only_ecs = difference(service, "more environment")
    assert names(ecs[service]) - compose == only_ecs
    assert compose - names(ecs[service]) == only_compose


@pytest.mark.parametrize("service", BUILT)
def test_same_defaults(ecs, service):
    """.env.sample has the defaults of Compose, variables.tf those of ECS; two have own tests."""
    sample = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.sample").read_text(), re.M))
    if service in ("data-query", "flask"):  # in Compose too
        sample["POSTGRES_USER"] = sample["POSTGRES_APP_USER"]
    own = {"FLASK_UPSTREAMS", "TRUSTED_PROXIES", "X_SERVED_BY"}
    both = (settings(ecs[service]).keys() & sample.keys()) - own
    assert both
    assert {name: settings(ecs[service])[name] for name in both} == {n: sample[n] for n in both}


@pytest.mark.parametrize("service", BUILT)
def test_same_image(ecs, service):
    repository, tag = ecs[service]["image"].rsplit(":", 1)
    assert repository.endswith(f"/weather/{service}")
    assert tag == "v1"
    image = COMPOSE[service].get("image", f"weather-{service}")
    assert image == f"weather-{service}"
    assert COMPOSE[service]["build"] == service


@pytest.mark.parametrize("service", ["flask", "nginx"])
def test_same_port(ecs, service):
    [mapping] = ecs[service]["portMappings"]
    [published] = COMPOSE[service]["ports"]
    assert published.endswith(f":{mapping['containerPort']}")


@pytest.mark.parametrize("service", ["flask", "nginx"])
def test_same_health_check(ecs, service):
    compose, check = COMPOSE[service]["healthcheck"], ecs[service]["healthCheck"]
    assert check["command"] == compose["test"]
    assert check["timeout"] == seconds(compose["timeout"])
    retries = (compose["retries"], check["retries"])
    if retries[0] != retries[1]:
        assert retries == difference(service, "health retries")
    assert check["startPeriod"] == seconds(compose["start_period"])
    intervals = (seconds(compose["interval"]), check["interval"])
    assert intervals == difference(service, "health interval")


def test_the_load_balancer_asks_the_same_path(life):
    [group] = life.stack.target_groups
    assert group["HealthCheckPath"] == "/nginx-health"
    assert COMPOSE["nginx"]["healthcheck"]["test"][-1].endswith(":8080/nginx-health")
    assert group["Port"] == 8080


@pytest.mark.parametrize("service", ["flask", "nginx"])
def test_same_time_to_stop(ecs, service):
    assert ecs[service]["stopTimeout"] == seconds(COMPOSE[service]["stop_grace_period"])


def test_same_number_of_replicas(life):
    services = life.stack.services
    replicas = [s for s in COMPOSE.values() if s.get("image") == "weather-flask"]
    assert services["flask"]["desiredCount"] == len(replicas) == 3
    assert (1, services["nginx"]["desiredCount"]) == difference("nginx", "replicas")


def test_the_budget_counts_every_replica(ecs):
    compose = COMPOSE["flask"]["environment"]["FLASK_REPLICAS"]
    budget = (compose, settings(ecs["flask"])["FLASK_REPLICAS"])
    assert budget == difference("flask", "replicas in the budget")


def test_who_says_its_name(ecs):
    [sample] = re.findall(r"^X_SERVED_BY=(.*)$", (ROOT / ".env.sample").read_text(), re.M)
    named = (sample, settings(ecs["flask"])["X_SERVED_BY"])
    assert named == difference("flask", "X_SERVED_BY")


def test_upstreams(ecs):
    compose = COMPOSE["nginx"]["environment"]["FLASK_UPSTREAMS"]
    [default] = re.findall(r"^\$\{FLASK_UPSTREAMS:-(.*)\}$", compose)
    upstreams = (default, settings(ecs["nginx"])["FLASK_UPSTREAMS"])
    assert upstreams == difference("nginx", "upstreams")


def test_trusted_proxies(ecs):
    [sample] = re.findall(r"^TRUSTED_PROXIES=(.*)$", (ROOT / ".env.sample").read_text(), re.M)
    proxies = (sample, settings(ecs["nginx"])["TRUSTED_PROXIES"])
    assert proxies == difference("nginx", "trusted proxies")


def gates(service):
    waits = COMPOSE[service]["depends_on"].items()
    return {name for name, wait in waits if wait["condition"] == "service_completed_successfully"}


def test_same_gates(life):
    assert gates("data-query") == {"data-populator"}
    run = re.findall(r"weather-(data-\w+):\d+: started", life.first_flask_fails.stdout)
    assert run == ["data-populator", "data-query"]
    assert (gates("flask"), set(run)) == difference("flask", "gate")


def test_each_flask_task_waits_for_a_gate_that_only_reads(life, ecs):
    containers = life.stack.definitions["flask"]["containerDefinitions"]
    others = {c["name"] for c in containers if c["name"] != "flask"}
    assert (set(), others) == difference("flask", "gate of each replica")
    assert ecs["flask"]["dependsOn"] == [{"containerName": "data-query", "condition": "SUCCESS"}]
    [gate] = [c for c in containers if c["name"] == "data-query"]
    assert gate["image"] == ecs["data-query"]["image"]
    assert not gate["essential"]
    assert settings(gate) == settings(ecs["data-query"])


def assert_same_hardening(container, compose, user):
    linux = container["linuxParameters"]
    assert container["user"] == user
    assert not user.startswith(("0", "root"))
    assert container["readonlyRootFilesystem"] is compose["read_only"] is True
    assert linux["capabilities"]["drop"] == compose["cap_drop"] == ["ALL"]
    assert linux.get("initProcessEnabled", False) == compose.get("init", False)
    [mount] = compose["tmpfs"]
    [tmpfs] = linux["tmpfs"]
    assert mount == f"{tmpfs['containerPath']}:size={tmpfs['size']}m"
    options = (compose["security_opt"], container.get("dockerSecurityOptions"))
    assert options == difference("every container", "security options")
    assert "privileged" not in container


@pytest.mark.parametrize("service", BUILT)
def test_same_hardening(ecs, service):
    assert_same_hardening(ecs[service], COMPOSE[service], last_user(service))


@pytest.mark.parametrize(
    ("service", "family"), [("locust", "locust-master"), ("locust-worker", "locust-worker")]
)
def test_same_load_generators(life, service, family):
    [container] = life.after_change.definitions[family]["containerDefinitions"]
    assert container["image"].endswith("/weather/simulate:v1")
    assert COMPOSE[service]["image"] == "weather-simulate"
    assert_same_hardening(container, COMPOSE[service], last_user("simulate"))
    assert container["healthCheck"]["command"] == COMPOSE[service]["healthcheck"]["test"]


@pytest.mark.parametrize("family", ["experiment-master", "experiment-worker"])
def test_experiments_run_in_the_same_containers(life, family):
    [container] = life.after_change.definitions[family]["containerDefinitions"]
    assert container["image"].endswith("/weather/simulate:v1")
    assert_same_hardening(container, COMPOSE["locust-worker"], last_user("simulate"))


@pytest.mark.parametrize("service", ["flask", "nginx"])
def test_same_backlog(ecs, service):
    [control] = ecs[service]["systemControls"]
    assert {control["namespace"]: int(control["value"])} == COMPOSE[service]["sysctls"]


@pytest.fixture(scope="module")
def sidecars(life):
    """What stands beside flask and nginx with metrics = true, by service."""
    return {
        service: [
            container
            for container in life.after_change.definitions[service]["containerDefinitions"]
            if container["name"] not in (service, "data-query")
        ]
        for service in ("flask", "nginx")
    }


def test_metrics_are_collected_in_each_task_of_both_services(sidecars):
    names = {service: [c["name"] for c in containers] for service, containers in sidecars.items()}
    assert names == {"flask": ["collector"], "nginx": ["exporter", "collector"]}


def test_collectors_ask_their_neighbours(sidecars):
    asked = {}
    for service, containers in sidecars.items():
        configuration = yaml.safe_load(settings(containers[-1])["AOT_CONFIG_CONTENT"])
        [scrape] = configuration["receivers"]["prometheus"]["config"]["scrape_configs"]
        assert scrape["job_name"] == service
        asked[service] = scrape["static_configs"][0]["targets"]
    assert asked == {"flask": ["127.0.0.1:5000"], "nginx": ["127.0.0.1:9113"]}
    status = re.search(
        r"^ENV NGINX_STATUS_LISTEN=(\d+)$", (ROOT / "nginx" / "Dockerfile").read_text(), re.M
    )[1]
    [command] = sidecars["nginx"][0]["command"]
    assert command == f"--nginx.scrape-uri=http://127.0.0.1:{status}/stub_status"


def test_a_collector_writes_what_it_read_to_the_workspace(life, sidecars):
    [workspace] = life.after_change.workspaces
    for containers in sidecars.values():
        collector = yaml.safe_load(settings(containers[-1])["AOT_CONFIG_CONTENT"])
        exporter = collector["exporters"]["prometheusremotewrite"]
        assert exporter["endpoint"].endswith(f"{workspace['workspaceId']}/api/v1/remote_write")
        assert exporter["auth"] == {"authenticator": "sigv4auth"}
        [pipeline] = collector["service"]["pipelines"].values()
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) == set(collector[kind])
        assert pipeline["processors"][:2] == ["resourcedetection", "resource"]  # which task it is
        assert set(collector["service"]["extensions"]) == set(collector["extensions"])


def test_metrics_harm_neither_requests_nor_the_other_containers(life, sidecars):
    for service, containers in sidecars.items():
        for container in containers:
            assert not container["essential"]
            assert container["readonlyRootFilesystem"]
            assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
            assert not container["user"].startswith(("0", "root"))
            assert not container.get("secrets")
        definition = life.after_change.definitions[service]
        always = [c for c in definition["containerDefinitions"] if c["name"] != "data-query"]
        gate = 256 if service == "flask" else 0
        assert sum(c["memory"] for c in always) + gate + 128 == int(definition["memory"])


def test_same_metrics(sidecars):
    configuration = yaml.safe_load((ROOT / "observe/prometheus/prometheus.yml").read_text())
    jobs = {scrape["job_name"] for scrape in configuration["scrape_configs"]}
    assert (jobs, set(sidecars)) == difference("prometheus", "jobs")
    assert sidecars["nginx"][0]["image"] == COMPOSE["nginx-exporter"]["image"]


def test_no_service_may_write_but_the_populator(life):
    for name in life.stack.services:
        images = [c["image"] for c in life.stack.definitions[name]["containerDefinitions"]]
        assert not any("data-populator" in image for image in images)


RDS_UNITS = {"max_wal_size": ("8GB", "8192"), "checkpoint_timeout": ("15min", "900")}  # MB, s


def test_same_database_settings(life):
    compose = dict(re.findall(r"-c (\w+)=(\S+)", COMPOSE["db"]["command"]))
    assert len(compose) >= 4
    for name, value in compose.items():
        expected = RDS_UNITS.get(name) or difference("db", name)
        assert (value, life.stack.database_parameters[name]) == expected


def test_same_engines(life):
    database, cache = life.stack.database, life.stack.cache
    assert COMPOSE["db"]["image"] == f"{database['Engine']}:{database['EngineVersion']}"
    cache_engine = f"{cache['Engine']}:{life.stack.cache_version}"
    assert (COMPOSE["redis"]["image"], cache_engine) == difference("redis", "engine")
