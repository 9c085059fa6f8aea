# `make demo` and `make test` are all a newcomer needs; neither installs anything.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
LOG = $(TARGET)/test-output/tests.log

.PHONY: demo test test-system test-years soak promises lint generate setup deny

demo: ## a simulated Pulse, an endpoint on this machine, the sidecar and its page
	@$(CARGO) build --bin pulse-telemetry --example demo
	@$(TARGET)/debug/examples/demo

test: ## all tests
	$(CARGO) test --no-fail-fast

test-system: ## what needs root and a file system of its own; bounded, and undone at the end
	$(CARGO) test --test system -- --ignored

test-years: ## 300 installation-years of the whole daemon, optimised
	YEARS=300 $(CARGO) test --profile soak --test whole_daemon

soak: ## the long sizes of what CI samples; takes about half an hour
	KILLS=200 FAULTS=all $(CARGO) test --test kills --test storage_faults
	LOSSES=200 $(CARGO) test --test system -- --ignored
	YEARS=3000 $(CARGO) test --profile soak --test whole_daemon

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
	apt-get install -y --no-install-recommends python3 strace e2fsprogs

deny: ## licences and sources of the dependencies; builds cargo-deny first, which takes minutes
	$(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources
