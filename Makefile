# Commands for people and CI. They need Python 3.11 or newer and make; everything else comes from the locks.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
export MLFLOW_DISABLE_TELEMETRY := true
# Without this, an MLflow server starts seven processes for GenAI evaluations, which this project does not use.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Test data need not survive a power cut, so tests skip disk syncs where eatmydata is installed.
NO_SYNC := $(shell command -v eatmydata)
MODEL ?= credit_default
without_verdict ?= false
run =
base =
output =
real ?= ../shared/data/default_of_credit_card_clients.csv

ifneq (,$(findstring %,$(CURDIR)))
ifneq (,$(filter-out help backup restore clean,$(MAKECMDGOALS)))
$(error $(CURDIR): MLflow cannot use a path with '%'. Move or rename the folder, then try again)
endif
endif

# With an absolute URL, MLflow's command line would create a folder next to a checkout whose name has special characters.
run drift sample: export MLFLOW_TRACKING_URI := $(or $(MLFLOW_TRACKING_URI),sqlite:///mlflow.db)

# The variables that each command takes, besides those of ALWAYS. Any other variable is an error, so that a typing
# mistake is never ignored.
ALWAYS := PYTHON NO_SYNC
OFF := 0 no false
takes.run := options
takes.bench := real
takes.ui := port
takes.report := run base output
takes.serve := options
takes.ci-report := options main
takes.image := target name push
takes.models := MODEL
takes.promote := VERSION REASON MODEL without_verdict
takes.rollback := REASON MODEL
takes.drift := options
takes.airflow := port
takes.stack := profile
takes.stack-restore := FROM replace
takes.restore := FROM replace

takers := $(filter takes.%,$(.VARIABLES))
goals := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
taken := $(sort $(foreach goal,$(goals),$(takes.$(goal))))
typed := $(foreach name,$(filter-out -%,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
option = $(1)=$(value $(1))
example = : make $(goals) options="$(if $(value options),$(value options) $(option),$(option))"
define reject
$(error make $(goals): unknown variable '$(1)' (it takes: $(or $(taken),none))$(if $(filter options,$(taken)),$(example)))
endef
$(foreach name,$(filter-out $(taken) $(ALWAYS),$(typed)),$(call reject,$(name)))
# Values are free text: a dollar sign stays a dollar sign, because recipes read values as shell variables.
$(foreach name,$(sort $(foreach row,$(takers),$($(row)))),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run.stamp ## train on the bundled sample and register a model (options="data=uci ..." for more)
	@MLFLOW_LOGGING_LEVEL=WARNING python main.py --hydra_options "$$options"

test: .venv/test.stamp .venv-airflow/stamp ## run all tests except cluster-test, dags-test, stack-test and tour
	$(NO_SYNC) pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder tests/system tests/contract tests/unit

test-quick: .venv/test.stamp ## run the unit and contract tests, without the slow ones
	$(NO_SYNC) pytest --quiet --numprocesses 2 --dist loadfile -m "not slow" tests/contract tests/unit

check: .venv/test.stamp ## check format, lint, prose, types and workflows
	ruff format --check .
	ruff check .
	mypy .
	python -m ci.prose
	actionlint
	zizmor --offline --quiet --no-progress .github

audit: .venv/audit.stamp ## look up the locked packages in the database of vulnerabilities (needs a network)
	@python -m ci.audit requirements/*.lock

bench: .venv/test.stamp ## measure speed, and compare the sample with the real data (real=FILE.csv); results in benchmarks/*.md
	PYTHONPATH=. python benchmarks/speed.py "$$real"
	PYTHONPATH=. python benchmarks/serving.py
	PYTHONPATH=. python benchmarks/sample_fidelity.py "$$real"

ui: .venv/run.stamp ## open MLflow with the runs of this folder on http://127.0.0.1:5050 (port=5051)
	@PYTHONWARNINGS="ignore:starlette.middleware.wsgi is deprecated" mlflow ui --backend-store-uri sqlite:///mlflow.db \
	  --default-artifact-root "$$PWD/mlruns" --port "$${port:-5050}"

report: .venv/run.stamp ## rebuild the report of the newest pipeline run (run=RUN_ID base=RUN_ID output=FOLDER)
	@python -m pipeline.report --run_id "$$run" --base_run_id "$$base" --output "$$output"

serve: .venv/run.stamp ## start the scorer on http://127.0.0.1:5000/docs (options="port=5001 workers=2 ...")
	@cd serve && PYTHONPATH=.. exec python -P -m stepkit.step.with_options "$$options" "" python -P run.py

ci-report: .venv/run.stamp ## run the pipeline as CI does and write outputs/ci/comment.md (options="data=uci" main=1)
	@MLFLOW_LOGGING_LEVEL=WARNING python -m ci.report --options="$$options" $(if $(filter-out $(OFF),$(main)),--keep_as_base)

ci-comment: .venv/run.stamp ## post outputs/ci/summary.json as comments (GITHUB_TOKEN, GITHUB_REPOSITORY, GITHUB_EVENT_PATH)
	@python -m ci.post outputs/ci/summary.json

image: ## build an image with SBOM and provenance (target=project name=ghcr.io/me/project:1.0.0 push=1)
	@test -n "$$target" -a -n "$$name" || { echo 'make image: target or name is missing. Example: make image target=project name=credit-default/project:dev' >&2; exit 2; }
	@mkdir -p outputs/images
	docker buildx build --file docker/Dockerfile --target "$$target" --tag "$$name" --sbom=true --provenance=mode=max \
	  --metadata-file "outputs/images/$$target.json" $(if $(filter-out $(OFF),$(push)),--push) .
	@$(PYTHON) -c 'import json, sys; print(json.load(open(sys.argv[1]))["containerimage.digest"])' \
	  "outputs/images/$$target.json" > "outputs/images/$$target.digest"

models: .venv/run.stamp ## list the registered versions, their verdicts and the promotions
	@cd register && PYTHONPATH=.. python -P models.py --model_name "$$MODEL"

promote: .venv/run.stamp ## make a version the champion by hand (VERSION=n REASON="why")
	@cd register && PYTHONPATH=.. python -P promote.py --version "$$VERSION" --reason "$$REASON" --model_name "$$MODEL" \
	  --without_verdict "$$without_verdict"

rollback: .venv/run.stamp ## make the previous champion the champion again (REASON="why")
	@cd register && PYTHONPATH=.. python -P rollback.py --reason "$$REASON" --model_name "$$MODEL"

drift: .venv/drift.stamp ## compare logged predictions with the training data and open the drift page (options="current=log:?rows=5000")
	@MLFLOW_EXPERIMENT_NAME=drift PYTHONPATH=. python -m stepkit.step.with_options "$$options" "" python -P drift/run.py
	@PYTHONPATH=. python -m stepkit.step.with_options "$$options" "model_name reference" python -P drift/page.py --open true

bench-drift: .venv/test.stamp ## measure false alarms and detected drifts (benchmarks/drift.md)
	PYTHONPATH=. python -P benchmarks/drift.py

airflow: .venv/drift.stamp .venv-airflow/stamp ## start Airflow on http://127.0.0.1:8080: it watches for drift and retrains (port=8090)
	@.venv-airflow/bin/python -P drift/airflow_standalone.py --port "$${port:-8080}"

loop: .venv/drift.stamp .venv-airflow/stamp ## run the whole cycle once: train, serve, drift, alert, retrain, switch
	@PYTHONPATH=. python -P -m loop.run

sample: .venv/run.stamp ## generate data/sample.csv.gz again from its seed
	mlflow run ./simulate --env-manager local

cluster: .venv/cluster.stamp ## install Ray for sweeps and Spark for scoring (Spark also needs Java 17)

secrets: ## add missing random passwords to docker/.env
	@$(PYTHON) docker/make_env.py

stack: ## check the machine and start the containers (profile=core: MLflow, PostgreSQL, scorer)
	@$(PYTHON) docker/preflight.py --profile $(or $(profile),full)
	docker compose -f docker/compose.yaml --profile $(or $(profile),full) up --build --detach --wait

cluster-test: .venv/test.stamp ## test parallel pipelines, sweeps on joblib and Ray, and scoring on Spark
	pytest --timeout 1200 tests/cluster

tour: .venv/test.stamp ## run every command of the README and the documentation on a fresh clone
	pytest --timeout 1200 tests/tour

dags-test: .venv/test.stamp .venv-airflow/stamp ## test both DAGs in a real Airflow: alerts, retraining, a killed scheduler, a backfill
	pytest --timeout 1200 tests/dags

stack-test: .venv/test.stamp .venv/drift.stamp .venv-airflow/stamp ## test every container's command on a real PostgreSQL, without Docker (Linux, root)
	@python -m tests.stack.needs
	pytest --timeout 1200 tests/stack tests/contract/test_stack.py

stack-backup: ## back up the stores of the running containers into the volume backups
	docker compose -f docker/compose.yaml run --rm backup save

stack-restore: ## restore a backup into the stores of the containers (FROM=/backups/NAME replace=yes)
	docker compose -f docker/compose.yaml run --rm backup restore --from "$$FROM" $(if $(filter-out $(OFF),$(replace)),--replace)

backup: ## copy runs, artifacts and the prediction log into backups/ while everything keeps running
	@$(PYTHON) -m backup.run save

restore: ## restore a backup (FROM=backups/NAME; replace=yes overwrites existing stores)
	@test -n "$$FROM" || { echo "make restore: FROM is missing. Example: make restore FROM=backups/NAME" >&2; exit 2; }
	@$(PYTHON) -m backup.run restore --from "$$FROM" $(if $(filter-out $(OFF),$(replace)),--replace)

docs: .venv/run.stamp ## generate docs/reference.md from the schema and the MLproject files
	PYTHONPATH=. python docs/make_reference.py

lock: .venv/bin/uv ## resolve requirements/*.in into locks with hashes
	for name in run cluster drift test audit airflow; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate requirements/$$name.in --output-file requirements/$$name.lock; done

clean: ## remove environments, caches and outputs/{ci,images,stack}; keep runs, models and your files
	rm -rf .venv .venv-airflow .pytest_cache .ruff_cache .mypy_cache .hypothesis outputs/ci outputs/images outputs/stack

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON): Python 3.11 or newer is needed (found $$($(PYTHON) --version 2>&1)). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv (once, about a minute) ..." >&2
	@$(PYTHON) -m venv .venv || { echo ".venv: cannot be created. On Debian and Ubuntu, run: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements/run.lock)"

.venv-airflow/stamp: requirements/airflow.lock .venv/bin/uv
	@echo "installing the packages of $< into .venv-airflow ..." >&2
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-airflow
	@$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-airflow/bin/python --require-hashes --requirement $<
	@touch $@

.venv/%.stamp: requirements/%.lock .venv/bin/uv
	@echo "installing the packages of $< into .venv ..." >&2
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement $<
	@touch $@

.PHONY: help run test test-quick check audit bench ui report serve models promote rollback ci-report ci-comment image drift bench-drift sample cluster cluster-test dags-test tour secrets stack stack-test stack-backup stack-restore backup restore airflow loop docs lock clean
