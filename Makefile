# The one command surface: `make help`.
#
# ARGS goes to the program (`make up ARGS="--listen 127.0.0.1:5000"`) or to the
# test runner (`make test ARGS=a_revoked_token`). CARGO_TARGET_DIR is respected.

SHELL := bash
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Of `make fuzz`.
CASES := 20000
# Postgres and Node fixtures are started by the tests themselves.
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

.PHONY: help up test check instructions dist bench bench-full bench-rivals profile soak fuzz interop deps deps-test

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

up: deps ## build and run control plane and proxy (ARGS)
	cargo build --release --locked --bin lockgate
	@exec "$(TARGET)/release/lockgate" up $(ARGS)

test: deps-test ## every test, on real parts (ARGS filters)
	cargo build --workspace --locked --bins
ifdef NEXTEST
	cargo nextest run --workspace --locked $(ARGS)
else
	cargo test --workspace --locked $(ARGS)
endif
	@echo "make test: every test passed"

check: deps ## fmt, clippy, doc, dependencies
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --locked --no-deps
	@if command -v cargo-deny >/dev/null; then cargo deny --config .deny.toml check; \
	else echo "make check: cargo-deny is not installed, dependencies were not checked (cargo install cargo-deny)" >&2; fi
	@echo "make check: clean"

dist: deps ## what packages carry: TARGET/dist/lockgate, compiled and placed by what a run of it does
	@.ci/deps dist
	deploy/dist "$(TARGET)"

bench: dist ## direct, bare hyper proxy, Lockgate; interleaved, under five minutes once built (ARGS=CASE, --quick, --streams, --stdio)
	chrt --batch 0 "$(TARGET)/dist/bench" --out tests/bench/results $(ARGS)

bench-full: dist ## what make bench leaves out, a quarter of an hour once built (ARGS=CASE, --quick)
	chrt --batch 0 "$(TARGET)/dist/bench" --full --out tests/bench/results $(ARGS)

RIVALS := $(TARGET)/rivals
bench-rivals: dist ## beside ContextForge from PyPI, and AGENTGATEWAY=PROGRAM if given
	test -x "$(RIVALS)/contextforge/bin/pip" || python3 -m venv "$(RIVALS)/contextforge"
	"$(RIVALS)/contextforge/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tests/bench/contextforge.lock
	chrt --batch 0 "$(TARGET)/dist/bench" --rivals --contextforge "$(RIVALS)/contextforge" \
		$(if $(AGENTGATEWAY),--agentgateway "$(AGENTGATEWAY)") --out tests/bench/results $(ARGS)

# Stacks become a picture by the tools of the inferno crate. They are no dependency of the workspace,
# which would have to build them with each of its tests.
INFERNO := 0.12.8
TOOLS := $(TARGET)/tools
profile: dist ## a flame graph of the data plane under small calls (perf); instructions: make instructions
	@command -v perf >/dev/null || { echo "make profile: perf is missing (Debian: apt-get install linux-perf)" >&2; exit 1; }
	test -x "$(TOOLS)/bin/inferno-flamegraph" || cargo install --locked --root "$(TOOLS)" --version $(INFERNO) \
		--no-default-features --features cli inferno
	"$(TARGET)/dist/bench" --profile "$(TARGET)/profile.perf"
	mkdir -p tests/bench/results
	set -o pipefail; perf script --input "$(TARGET)/profile.perf" | "$(TOOLS)/bin/inferno-collapse-perf" \
		| "$(TOOLS)/bin/inferno-flamegraph" --title "data plane, tools/call of 303 bytes, 64 sessions" \
		> tests/bench/results/profile.svg
	@echo "make profile: wrote tests/bench/results/profile.svg; counted instructions: make instructions"

instructions: deps-test ## what the pure core takes, counted, against its budget (ARGS=--record)
	cargo build --workspace --locked --bins
	"$(TARGET)/debug/instructions" $(ARGS)

soak: deps-test ## the long runs: 200 crash rounds, 10,000 clients that come and go (ARGS)
	cargo build --workspace --locked --bins
	LOCKGATE_SOAK=1 cargo test --workspace --locked --test e2e -- --nocapture --test-threads=1 durability leaks $(ARGS)

fuzz: deps ## the property tests with CASES random inputs each (20000; ARGS)
ifdef NEXTEST
	PROPTEST_CASES=$(CASES) cargo nextest run --workspace --locked --profile fuzz $(ARGS)
else
	PROPTEST_CASES=$(CASES) cargo test --workspace --locked --lib --test round_trip $(ARGS)
endif

interop: deps-test ## SDK clients before real servers, through the gateway or with ARGS=--direct without
	cargo build --workspace --locked --bins
	"$(TARGET)/debug/interop" $(ARGS)

deps: ## install what building needs
	@.ci/deps build

deps-test: ## install what the tests need too
	@.ci/deps test
