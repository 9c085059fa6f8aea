# `make demo` and `make test` are all a newcomer needs; neither installs anything.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
LOG = $(TARGET)/test-output/tests.log

.PHONY: bench-collector demo test test-system soak promises lint generate setup deny

demo: ## a simulated Pulse, an endpoint on this machine, the sidecar and its page
	@$(CARGO) build --features collector --bins --example demo
	@$(TARGET)/debug/examples/demo

test: ## all tests
	$(CARGO) test --features collector --no-fail-fast

test-system: ## what needs root and a file system of its own; bounded, and undone at the end
	$(CARGO) test --features collector --test system --test collector_system -- --ignored

soak: ## the long sizes of what CI samples; takes about ten minutes
	KILLS=200 FAULTS=all $(CARGO) test --test kills --test storage_faults
	KILLS=100 POSTGRES_KILLS=20 $(CARGO) test --features collector --test collector_kills
	LOSSES=200 $(CARGO) test --features collector --test system --test collector_system -- --ignored

promises: ## run the tests, and print every sentence of the privacy page with its result
	@$(CARGO) build --quiet --features collector --example promises
	@mkdir -p $(dir $(LOG))
	@$(CARGO) test --features collector --no-fail-fast >$(LOG) 2>&1 || true
	@$(TARGET)/debug/examples/promises $(LOG)

lint: ## what CI checks besides the tests
	$(CARGO) fmt --check
	$(CARGO) clippy --bin pulse-telemetry -- -D warnings
	$(CARGO) clippy --all-targets --features collector -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features collector --document-private-items

bench-collector: ## figures of the collector: durable pings a second, a purge at 1 and 10 million rows, a storm
	$(CARGO) bench --features collector --bench collector_pings --bench collector_storm --bench collector_purge

generate: ## write the files that are made from the code
	$(CARGO) run --quiet --features collector --example generate

setup: ## what CI needs beyond the Rust toolchain; needs root
	apt-get update
	apt-get install -y --no-install-recommends python3 strace e2fsprogs postgresql-common
	# The tests make clusters of their own; Debian's would only take memory.
	sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	apt-get install -y --no-install-recommends postgresql-15

deny: ## licences and sources of the dependencies; builds cargo-deny first, which takes minutes
	$(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources
