# The two commands that a newcomer types are `make demo` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help demo test test-full e2e ramdisk interop-nv bench lint build controlplane clean-demo

help: ## List what can be made
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## A control plane, 12 simulated machines, three claims, until Ctrl-C (ONCE=1: the whole life, then a table; QEMU=1: machines with real firmware, as root; CLUSTER_KUBECONFIG=file: on that cluster)
	@scripts/demo

test: ## Formatting, lints, every test, the API-server tests included
	@scripts/test

test-full: ## The same, and what takes long: killed processes, big fleets, foreign clients
	@CORTEN_TEST_FULL=1 scripts/test

e2e: ## Whole machines with real firmware in QEMU: discovery, cleaning and installation from inside (installs QEMU and more as root)
	@scripts/e2e-setup
	@scripts/ramdisk hardware
	@$(CARGO) build -p corten
	@set -o pipefail; log=$$(mktemp "$${TMPDIR:-/tmp}/corten-e2e.XXXXXX"); trap 'rm -f "$$log"' EXIT; \
	$(CARGO) test -p corten-tests --test e2e -- --show-output 2>&1 | tee "$$log" || exit; \
	grep '^skipped: ' "$$log" || true; \
	if grep -q '^skipped: e2e' "$$log"; then echo "make e2e: machine tests were skipped, see above" >&2; exit 1; fi

ramdisk: ## The discovery ramdisk for --boot-ramdisk, into the user's cache (PROFILE=virtual: for virtual machines)
	@scripts/ramdisk $(PROFILE)

interop-nv: ## The strict client nv-redfish against the simulator (part of make test)
	@scripts/interop-nv

bench: ## Measure onboarding and the fleet at rest, into docs/benchmarks.md (BENCH_ARGS="--sizes 100" for less)
	@$(CARGO) build --release -p corten -p corten-benches --features corten/jemalloc
	@ramdisk=; if [ "$$(id -u)" = 0 ] && scripts/e2e-setup; then ramdisk="--ramdisk $$(scripts/ramdisk virtual)"; fi; \
	target/release/corten-bench --out docs/benchmarks.md $$ramdisk $(BENCH_ARGS)

lint: ## Formatting and lints alone
	@scripts/test lint

build: ## The release binary
	@$(CARGO) build --release -p corten --features jemalloc

controlplane: ## Build the control plane's programs, if they are not there yet
	@$(CARGO) run -q --profile demo -p corten -- demo --prepare-only

clean-demo: ## Remove the demo's folder with its logs
	@rm -rf .demo
