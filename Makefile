# `make` alone lists what there is to do.
PYTHON ?= python3
setting = $(or $($1),$(shell sed -n 's/^$1=//p' .env 2>/dev/null))
INSTANCE := $(or $(call setting,DOOGIE_PROXY_INSTANCE),default)

# The proxy must be given the socket of the very engine that Docker's commands here talk to.
ifneq ($(filter unix://%,$(DOCKER_HOST)),)
export DOOGIE_ENGINE_SOCKET ?= $(patsubst unix://%,%,$(DOCKER_HOST))
endif

# What builds must trust, pip and npm on this machine must trust as well.
ifneq ($(call setting,DOOGIE_BUILD_CA),)
export PIP_CERT ?= $(call setting,DOOGIE_BUILD_CA)
export NODE_EXTRA_CA_CERTS ?= $(call setting,DOOGIE_BUILD_CA)
endif

# The database of the demo's chat side: a file of SQLite, or PostgreSQL in a container of its own.
ifeq ($(DATABASE),postgresql)
export COMPOSE_PROFILES := postgresql
export DOOGIE_CHAT_DATABASE_URL := postgresql://doogie@/doogie?host=/run/postgresql
endif

define NEXT_STEPS

That was a server from PyPI, in a container without network, privileges or a writable disk. What to try next:

  docker compose exec chat doogie start sums doogie/mcp-server-everything
  docker compose exec chat doogie call sums get-sum --arg a=2 --arg b=40
  docker compose exec chat doogie start sh python:3.13-slim      (refused: no rule allows it)
  docker compose exec chat doogie ls
  docker compose run --rm tools                                  (a shell with curl and websocat)
  make down

endef
export NEXT_STEPS

.PHONY: help demo down images test test-newest pytest check many kill-test fuzz mutate bench venv lock audit-surface \
	redteam-table

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' $(MAKEFILE_LIST) | awk '{ name = $$1; $$1 = ""; printf "  make %-14s%s\n", name, $$0 }'

demo: images ## set everything up, paste a Claude Desktop file, start a server of it, call its tool; DATABASE=postgresql
	docker compose up --build --detach --wait
	docker compose run --build --rm -T tools 'python3 /demo/demo.py'
	@echo "$$NEXT_STEPS"

down: ## remove all that `make demo` made: MCP containers first, then the stack and its volumes
	docker compose stop proxy # so that nothing new is started meanwhile
	if docker ps --all --quiet --filter label=io.doogie.instance=$(INSTANCE) | grep -q .; then \
	  docker compose run --rm --no-deps -T proxy reap --all; fi # before the volume with the key that tells them
	docker compose --profile '*' down --volumes --remove-orphans

images: ## build the images of the starter policy's MCP servers
	@PYTHON=$(PYTHON) deploy/bootstrap/bootstrap.sh demo
	docker compose --env-file .env --file deploy/images/compose.yaml build

test: ## set everything up and run every test; PYTEST="-k word" picks some
	@PYTHON=$(PYTHON) deploy/bootstrap/bootstrap.sh test
	@$(MAKE) --no-print-directory pytest # anew, because it reads what bootstrap wrote to .env

test-newest: ## run every test on the newest engine instead of this machine's; needs root
	@PYTHON=$(PYTHON) deploy/bootstrap/bootstrap.sh test
	@$(MAKE) --no-print-directory venv
	.venv/bin/python -m tests.support.private_engine newest $(MAKE) --no-print-directory test

pytest: venv images
	docker compose --env-file .env --file tests/images/compose.yaml build
	.venv/bin/pytest $(PYTEST)

many: venv images ## run 200 servers at once (N=… others) and print what the proxy holds before, meanwhile and afterwards
	DOOGIE_TEST_SERVERS=$(or $(N),200) .venv/bin/pytest -s tests/engine/test_many.py

kill-test: venv ## kill the proxy N=100 times while it starts, stops and pulls, and look at what is left
	DOOGIE_KILLS=$(or $(N),100) $(if $(SEED),DOOGIE_SEED=$(SEED)) .venv/bin/pytest -s tests/engine/test_kill.py

fuzz: venv ## send N=100000 requests that are mostly wrong to a proxy on the real engine; SEED=… repeats a run
	.venv/bin/python -m tests.redteam.fuzz --count $(or $(N),100000) $(if $(SEED),--seed $(SEED))

check: venv ## lint, types, import rules and the fast tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest tests/unit

bench: venv ## measure a round trip through the proxy beside the engine's own attach and `docker run -i`
	.venv/bin/python -m bench.stdio

venv: .venv/ready ## make the development environment in .venv, or renew it

.venv/ready: requirements-dev.lock contract/pyproject.toml proxy/pyproject.toml chat_client/pyproject.toml deploy/images/pyproject.toml
	@echo "installing the development environment into .venv (a minute or two)"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/pip install -qq --no-compile --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@.venv/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e contract -e proxy -e chat_client -e deploy/images
	@touch $@

mutate: venv ## mutation testing of what decides (half an hour, no engine); MODULES="spec auth" takes some
	.venv/bin/python -m tests.mutation $(MODULES)

lock: ## write the lock files anew; `make lock UPGRADE=1` takes the newest of everything
	deploy/lock.sh $(if $(UPGRADE),--upgrade)

redteam-table: ## write which test shows which attack to fail into docs/security.md
	@$(PYTHON) -m tests.redteam.checklist docs/security.md

audit-surface: ## count the source lines that must be read to trust the proxy
	@$(PYTHON) deploy/audit_surface.py
