# People and CI use the same targets. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
# A room is a folder with packages of its own; tests/ has a folder for each, too.
ROOMS := flask data-populator data-query simulate observe/sidecar local tests
LOCKS := $(ROOMS:%=%/requirements.txt) tests/terraform/checkov.txt
SHELL_SCRIPTS := .ci/run build_and_push_images.sh nginx/*.sh terraform/*.sh
# Where experiments and benchmarks find the packages that they draw on.
SET_PYTHONPATH := PYTHONPATH=$(CURDIR)/local:$(CURDIR)/simulate:$(CURDIR)/flask:$(CURDIR)/benchmarks:$(CURDIR)/data-populator
# Runs a command with the settings of .env, as Compose reads it.
DOTENV := .venv/bin/python local/env_file.py

# After a failed start: the last line of each service that did not come up; exits as the start did.
SAY_WHY = { status=$$?; \
  docker compose --profile '*' ps --all --format '{{.Service}} {{.Status}}' | \
    awk '/unhealthy|Restarting|Exited \([^0]/ { print $$1 }' | \
    xargs -r docker compose --profile '*' logs --tail 1; \
  exit $$status; }

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: up
up: ## start the stack: containers where a Docker engine answers, else `make local`
	@if ! docker info >/dev/null 2>&1; then missing="No Docker engine answers"; \
	elif ! docker compose version >/dev/null 2>&1; then missing="Docker has no compose plugin"; \
	else \
	  echo "A Docker engine answers: starting the stack in containers"; \
	  docker compose up --build --wait || $(SAY_WHY); \
	  echo "ready http://$$(docker compose port nginx 8080)"; \
	  exit; \
	fi; \
	echo "$$missing: starting the stack as plain processes, until Ctrl-C"; \
	exec $(MAKE) --no-print-directory local

.PHONY: down
down: ## stop the stack, keep the data
	@lock=.local/lock; if [ -e $$lock ] && command -v flock >/dev/null && ! flock --nonblock $$lock true; then \
	  echo "Stopping the local stack"; \
	  kill "$$(cat $$lock)"; \
	  flock $$lock true; \
	fi
	@if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then docker compose --profile simulate --profile observe down; fi

.PHONY: observe
observe: ## add Prometheus and Grafana to the stack in containers
	@docker compose --profile observe up --build --wait || $(SAY_WHY)
	@for service in grafana:3000 prometheus:9090; do \
	  echo "$${service%:*} http://$$(docker compose --profile observe port "$${service%:*}" "$${service#*:}")"; \
	done

.PHONY: local
local: .venv/.local ## start the stack as plain processes, without Docker, until Ctrl-C
	@exec $(DOTENV) .venv/bin/python local/stack.py up

.PHONY: local-env
local-env: ## print the connection settings of the running local stack (use make -s)
	@.venv/bin/python local/stack.py env

.PHONY: simulate
simulate: .venv/.simulate ## start Locust's page against the running stack
	@exec $(DOTENV) bash -c 'replicas=$$(.venv/bin/python local/stack.py env 2>/dev/null | sed -n "s/^FLASK_URLS=//p"); \
	  FLASK_URLS="$${FLASK_URLS:-$$replicas}" exec .venv/bin/locust --config simulate/locust.conf \
	  --host "http://localhost:$${NGINX_PORT:-8000}" \
	  --web-host "$${LOCUST_BIND_ADDRESS:-127.0.0.1}" --web-port "$${LOCUST_PORT:-8089}"'

.PHONY: experiments
experiments: .venv/.local .venv/.simulate ## how many users does each setting carry? (ARGS=--quick: coarse; ARGS=--help)
	@$(SET_PYTHONPATH) .venv/bin/python -m lab $(ARGS)

.PHONY: aws-experiment
aws-experiment: ## measure the stack on AWS, with Locust in the cluster; costs money (ARGS="--users 10000 --pattern random")
	@exec $(PYTHON) terraform/experiment.py $(ARGS)

# A and B: a revision, . (the working tree) or SETTING=VALUE.
A ?= HEAD
B ?= .
.PHONY: compare
compare: .venv/.local .venv/.simulate ## is B faster than A? (A=HEAD~1 B=. or A=MEMORY_CACHE=on B=MEMORY_CACHE=off)
	@$(SET_PYTHONPATH) .venv/bin/python -m lab.compare "$(A)" "$(B)" $(ARGS)

.PHONY: logs
logs: ## follow the logs of the containers
	docker compose logs --follow --tail 100

# Three processes on two cores: one of them mostly waits for Terraform. tests/conftest.py deals them out.
.PHONY: test
test: .venv/.tests .venv/checkov/bin/checkov ## run every test (ROOM=flask: those of one folder)
	.venv/bin/python -m pytest -n 3 --no-loadscope-reorder tests/$(ROOM)

.PHONY: faults
faults: .venv/.tests ## kill, freeze and overload the stack, and see what its clients notice (30 minutes)
	FULL_DRILLS=1 .venv/bin/python -m pytest -m "not soak" tests/faults tests/compose/test_f*.py

.PHONY: soak
soak: .venv/.tests ## ten minutes of random faults
	.venv/bin/python -m pytest tests/faults -m soak -o faulthandler_timeout=900

.PHONY: benchmark-load
benchmark-load: .venv/.local .venv/.simulate ## measure the load against pgbench -i and a server-side COPY (11 minutes; SCALE=1: 100 million rows, 10 minutes)
	$(SET_PYTHONPATH) .venv/bin/python $(if $(SCALE),benchmarks/scale.py $(SCALE),benchmarks/load.py)

.PHONY: benchmark-client
benchmark-client: .venv/.local .venv/.simulate ## measure what a request costs the load generator (1 minute)
	$(SET_PYTHONPATH) .venv/bin/python benchmarks/http_client.py

.PHONY: benchmark-serve
benchmark-serve: .venv/.local .venv/.simulate ## measure serving against nginx and Flask alone (needs wrk; 8 minutes)
	$(SET_PYTHONPATH) .venv/bin/python benchmarks/serve.py

.PHONY: benchmark-requests
benchmark-requests: .venv/.local .venv/.simulate ## measure what each kind of request costs; writes docs/requests.md (4 minutes)
	$(SET_PYTHONPATH) .venv/bin/python benchmarks/asymmetry.py

.PHONY: lint
lint: .venv/.tests ## check the style of Python, shell and Dockerfiles
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/shellcheck $(SHELL_SCRIPTS)
	.venv/bin/hadolint */Dockerfile */*/Dockerfile

# --strict: a package that PyPI knows nothing about is a failure, not "no known vulnerabilities".
.PHONY: audit
audit: .venv/.tests ## look up known vulnerabilities of every pinned package on PyPI
	@failed=; for lock in $(LOCKS); do \
	  echo "$$lock"; \
	  .venv/bin/pip-audit --strict --require-hashes --disable-pip -r "$$lock" || failed="$$failed $$lock"; \
	done; \
	[ -z "$$failed" ] || { echo "Failed:$$failed" >&2; exit 1; }

.PHONY: format
format: .venv/.tests ## format the Python code and mend what ruff can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: lock
lock: .venv/.tests ## pin what requirements.in files name, with hashes (delete a .txt to upgrade it)
	@constraints=(); for room in $(ROOMS); do \
	  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header "$${constraints[@]}" $$room/requirements.in -o $$room/requirements.txt; \
	  constraints+=(-c $$room/requirements.txt); \
	done

.PHONY: terraform-lock
terraform-lock: ## pin Terraform's provider for every platform (needs its registry); commit the file
	terraform -chdir=terraform providers lock -platform=linux_amd64 -platform=linux_arm64 \
	  -platform=darwin_amd64 -platform=darwin_arm64 -platform=windows_amd64

.PHONY: images
images: .venv/.tests ## build every image without pushing
	./build_and_push_images.sh --build-only

# Checks terraform/ for risky settings. Its packages contradict those of the tests.
.venv/checkov/bin/checkov: tests/terraform/checkov.txt .venv/.tests
	@$(PYTHON) -m venv .venv/checkov
	@.venv/checkov/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<
	@touch $@

# A stamp per set of packages: .local to run the stack, .tests for everything.
.venv/.%: %/requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	@[ -x .venv/bin/pip ] || $(PYTHON) -m venv .venv
	@echo "Installing $< into .venv"
	@.venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<
	@touch $@
