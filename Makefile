# `make demo` and `make test` are all a newcomer needs; neither installs anything.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
LOG = $(TARGET)/test-output/tests.log
FUZZER = $(TARGET)/schemathesis
TOOLS = $(TARGET)/tools
# docs/dependencies.md lists each tool, and says how to raise it.
CARGO_DEB = cargo-deb@3.8.0
DIST_TOOLS = cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9 $(CARGO_DEB)
INSTALL = $(CARGO) install --quiet --locked --root $(TOOLS)
WITH_TOOLS = PATH="$(abspath $(TOOLS))/bin:$$PATH"
# Most tests wait for something, so twice as many run at once as there are processors.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: demo test test-system test-boot released test-image test-years soak linkage bench bench-collector mutants fuzz coverage promises promise lint generate setup axe charts fuzzer deny \
	dist apt-repo sbom reproducible dist-tools test-package

demo: ## a simulated Pulse, an endpoint on this machine, the sidecar and its page, the collector and what it publishes
	@$(CARGO) build --workspace --bins --example demo
	@$(TARGET)/debug/examples/demo

test: ## all tests
	$(CARGO) test --workspace --no-fail-fast

test-system: ## what needs root, a file system or a network of its own; bounded, and undone at the end
	$(CARGO) test --workspace --no-fail-fast --test it -- --ignored system:: collector_system:: egress:: state_dir::

test-boot: ## the unit under a systemd that is really booted; needs root, mmdebstrap and systemd-container
	$(CARGO) test --test it -- --ignored booted::

released: # what the images are made of
	@# The tools unoptimised are built in a third of the time.
	test -x $(TOOLS)/bin/cargo-cyclonedx || $(INSTALL) --debug $(DIST_TOOLS)
	$(WITH_TOOLS) PROGRAMS=pulse-telemetry CARGO_TARGET_DIR=$(TARGET)/released packaging/dist

test-image: released ## the images, built and run; needs root, mmdebstrap, buildah, podman, qemu-user, Debian's mirror and what `make dist` needs
	$(CARGO) test --test it -- --ignored image::

test-package: ## the Debian packages, installed, upgraded and purged under a booted systemd; needs what test-boot needs
	@# Unoptimised it is built in a third of the time.
	test -x $(TOOLS)/bin/cargo-deb || $(INSTALL) --debug $(CARGO_DEB)
	$(CARGO) build --workspace --bins && $(CARGO) test --test it -- --ignored package:: release::

test-years: ## 10,000 installation-years of engine and disk, 300 of the whole daemon, all that three steps can bring, and 18 fleets' published numbers
	YEARS=10000 $(CARGO) test --profile soak --test it simulation::
	DEPTH=3 $(CARGO) test --profile soak --test it -- --include-ignored exhaustive::
	YEARS=300 $(CARGO) test --profile soak --test it whole_daemon::
	FLEETS=300:11,6225:6,100000:1 SEED=5 $(CARGO) test --package pulse-telemetry-collector --test it collector_adversary::

soak: ## the long sizes of what CI samples; takes about five hours
	KILLS=200 FAULTS=all $(CARGO) test --test it -- kills:: storage_faults::
	KILLS=100 DELETION_KILLS=200 POSTGRES_KILLS=20 $(CARGO) test --workspace --test it collector_kills::
	LOSSES=200 $(CARGO) test --workspace --test it -- --ignored system::
	SEED=7 YEARS=300 $(CARGO) test --profile soak --test it whole_daemon::
	@# Optimised, a fleet is made in a tenth of the time.
	FLEETS=300:500,6225:450,100000:49,1000000:1 SEED=1000 $(CARGO) test \
		--config 'profile.dev.package."pulse-telemetry-collector".opt-level=2' --package pulse-telemetry-collector --test it collector_adversary::
	ROWS=30000000 $(CARGO) bench --package pulse-telemetry-collector --bench collector_numbers
	$(CARGO) run --profile soak --package xtask -- exhaust --depth 5 --states 10000000 --threads 2
	@# A year costs a fifth less for what the linker sees at once, and takes minutes more to build.
	CARGO_PROFILE_SOAK_LTO=fat CARGO_PROFILE_SOAK_CODEGEN_UNITS=1 \
		$(CARGO) run --profile soak --package xtask -- simulate --years 1000000 --threads 2

linkage: ## what a receiver of pings can link over a new ID, by a simulation
	@$(CARGO) run --quiet --profile soak --package xtask -- linkage

# The modules that decide, and the tests that hold them to it.
DECIDING = engine consent identity verdict version
DECIDED_BY = --test it -- $(DECIDING:%=%::)

mutants: ## breaks the deciding modules in every way cargo-mutants knows; takes some four hours
	$(INSTALL) cargo-mutants@27.1.0
	@# It would look for the tests of an unchanged tree in the package that it changes.
	$(CARGO) test --package pulse-telemetry $(DECIDED_BY)
	PROPTEST_RNG_SEED=1 $(WITH_TOOLS) $(CARGO) mutants --baseline skip --timeout 120 --package pulse-telemetry-core --test-package pulse-telemetry --output $(TARGET) -f 'crates/core/src/engine/*.rs' $(DECIDING:%=-f crates/core/src/%.rs) -- $(DECIDED_BY)

fuzz: ## what the collector takes, under a fuzzer, for FUZZ_SECONDS
	$(INSTALL) cargo-fuzz@0.13.2
	mkdir -p fuzz/corpus/ingest
	RUSTC_BOOTSTRAP=1 $(WITH_TOOLS) $(CARGO) fuzz run ingest fuzz/corpus/ingest fuzz/seeds -- -max_total_time=$(or $(FUZZ_SECONDS),60)

coverage: ## line coverage of the deciding modules by their own tests; needs rustup's llvm-tools
	$(INSTALL) cargo-llvm-cov@0.9.1
	$(WITH_TOOLS) $(CARGO) llvm-cov --no-report $(DECIDED_BY)
	$(WITH_TOOLS) $(CARGO) llvm-cov report --summary-only --package pulse-telemetry-core \
		| grep -E '^Filename|^(engine|consent|identity|verdict|version)[./]'

promises: ## run the tests, and print every sentence of the privacy page with its result
	@mkdir -p $(dir $(LOG))
	@$(CARGO) test --workspace --no-fail-fast >$(LOG) 2>&1 || true
	@$(CARGO) xtask promises $(LOG)

promise: ## run the tests of one sentence of the privacy page, and print its result: make promise N=7
	@mkdir -p $(dir $(LOG))
	@$(CARGO) test --workspace --no-fail-fast $$($(CARGO) xtask promise $(N)) >$(LOG) 2>&1 || true
	@$(CARGO) xtask promises $(LOG) $(N)

lint: ## what CI checks besides the tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) xtask check
	$(CARGO) check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

# The program as it is released: static where the target for it is installed (`rustup target add`, and musl-tools).
STATIC = $(shell uname -m)-unknown-linux-musl

bench: ## figures of the sidecar against peers; a few minutes, and those of an optimised build
	if rustup target list --installed 2>/dev/null | grep -qx $(STATIC); then \
		$(CARGO) build --release --bin pulse-telemetry --target $(STATIC) && sidecar=$(TARGET)/$(STATIC)/release; \
	else \
		echo "no $(STATIC) here: the sidecar is linked with glibc" && \
		$(CARGO) build --release --bin pulse-telemetry && sidecar=$(TARGET)/release; \
	fi && SIDECAR=$$(realpath $$sidecar/pulse-telemetry) \
		$(CARGO) bench --bench counting --bench footprint --bench serving

bench-collector: ## figures of the collector: durable pings a second, a purge at 1 and 10 million rows, the numbers of a day beside DuckDB, a storm, a crowd that attacks
	$(CARGO) bench --package pulse-telemetry-collector --benches

generate: ## write the files that are made from the code
	$(CARGO) xtask generate

setup: ## what CI needs beyond the toolchains of Rust and Go; needs root
	apt-get update
	apt-get install -y --no-install-recommends python3 python3-venv strace e2fsprogs nftables iproute2 \
		chromium fonts-dejavu-core openssl postgresql-common mmdebstrap systemd-container systemd \
		buildah podman crun nginx-light caddy prometheus \
		apt-utils gpg openssh-client xz-utils shellcheck qemu-user-static musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	# The tests make clusters of their own; Debian's would only take memory.
	sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	apt-get install -y --no-install-recommends postgresql-15 pgbouncer
	command -v npm >/dev/null || apt-get install -y --no-install-recommends npm
	$(MAKE) axe fuzzer charts

axe: ## npm's packages of the tests, beside the build: axe-core, the schema of Compose files
	mkdir -p $(TARGET)/axe
	cp .ci/tools/package.json .ci/tools/package-lock.json $(TARGET)/axe
	npm ci --silent --no-fund --no-audit --prefix $(TARGET)/axe

charts: ## Go's tools of the tests, beside the build: helm, actionlint
	mkdir -p $(TOOLS)/bin
	go build -C .ci/tools -o $(abspath $(TOOLS))/bin/ tool

fuzzer: ## Python's tools of the tests, beside the build: schemathesis, Prometheus' parser, HiGHS, DuckDB, Kubernetes' schemas
	python3 -m venv $(FUZZER)
	$(FUZZER)/bin/pip install --quiet --require-hashes --requirement .ci/tools/requirements.txt

deny: ## licences and sources of the dependencies; builds cargo-deny first, which takes minutes
	$(INSTALL) cargo-deny@0.20.2
	$(WITH_TOOLS) $(CARGO) deny check bans licenses sources

# Tools of the release, beside the build.
dist: dist-tools ## tarballs, packages, install.sh, lists of crates and SHA256SUMS, in dist/ beside the build; packaging/origin says how to sign; takes ten minutes
	$(WITH_TOOLS) packaging/dist

apt-repo: ## adds dist/'s packages, where there is one, to the apt repository beside it, apt/, and signs that; RELEASE_APT_KEY is the key
	packaging/apt-repo $(TARGET)/apt $(wildcard $(TARGET)/dist)

sbom: dist-tools ## the lists of crates alone
	mkdir -p $(TARGET)/dist
	$(WITH_TOOLS) packaging/sbom $(TARGET)/dist

reproducible: dist-tools ## two builds in different directories, compared byte by byte; takes a quarter of an hour
	$(WITH_TOOLS) packaging/reproduce

dist-tools:
	$(INSTALL) $(DIST_TOOLS)
