# `make demo` and `make test` are all a newcomer needs; neither installs anything.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
LOG = $(TARGET)/test-output/tests.log
FUZZER = $(TARGET)/schemathesis

.PHONY: demo test test-system test-years soak mutants coverage promises lint generate setup fuzzer deny

demo: ## a simulated Pulse, an endpoint on this machine, the sidecar and its page
	@$(CARGO) build --bin pulse-telemetry --example demo
	@$(TARGET)/debug/examples/demo

test: ## all tests
	$(CARGO) test --no-fail-fast

test-system: ## what needs root, a file system or a network of its own; bounded, and undone at the end
	$(CARGO) test --test system --test egress -- --ignored

test-years: ## 10,000 installation-years of the engine and 300 of the whole daemon, optimised
	YEARS=10000 $(CARGO) test --profile soak --test simulation
	YEARS=300 $(CARGO) test --profile soak --test whole_daemon

soak: ## the long sizes of what CI samples; takes about an hour
	KILLS=200 FAULTS=all $(CARGO) test --test kills --test storage_faults
	LOSSES=200 $(CARGO) test --test system -- --ignored
	YEARS=3000 $(CARGO) test --profile soak --test whole_daemon
	$(CARGO) run --profile soak --example simulate -- --years 1000000 --threads 2

# The modules that decide, and the tests that hold them to it.
DECIDING = engine consent identity verdict version
DECIDED_BY = $(DECIDING:%=--test %)

mutants: ## breaks the deciding modules in every way cargo-mutants knows; takes an hour, and cargo-mutants
	PROPTEST_RNG_SEED=1 $(CARGO) mutants --output $(TARGET) -f 'src/engine/*.rs' $(DECIDING:%=-f src/%.rs) -- $(DECIDED_BY)

coverage: ## line coverage of the deciding modules by their own tests; needs cargo-llvm-cov
	$(CARGO) llvm-cov --summary-only $(DECIDED_BY) --test simulation --test ledger 2>/dev/null \
		| grep -E '^Filename|^(engine|consent|identity|verdict|version)[./]'

promises: ## run the tests, and print every sentence of the privacy page with its result
	@$(CARGO) build --quiet --example promises
	@mkdir -p $(dir $(LOG))
	@$(CARGO) test --no-fail-fast >$(LOG) 2>&1 || true
	@$(TARGET)/debug/examples/promises $(LOG)

lint: ## what CI checks besides the tests
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items

generate: ## write the files that are made from the code
	$(CARGO) run --quiet --example generate

setup: ## what CI needs beyond the Rust toolchain; needs root
	apt-get update
	apt-get install -y --no-install-recommends python3 python3-venv strace e2fsprogs nftables iproute2 \
		chromium fonts-dejavu-core
	command -v npm >/dev/null || apt-get install -y --no-install-recommends npm
	npm install --silent --no-fund --no-audit --prefix $(TARGET)/axe axe-core@4.14.1
	$(MAKE) fuzzer

fuzzer: ## schemathesis, beside the build, for the test that draws requests from the OpenAPI document
	python3 -m venv $(FUZZER)
	$(FUZZER)/bin/pip install --quiet schemathesis==4.32.5

deny: ## licences and sources of the dependencies; builds cargo-deny first, which takes minutes
	$(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources
