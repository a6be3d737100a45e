# The two to begin with: `make demo` and `make test`. Both install what is missing.
.PHONY: demo demo-down test lint bench ci

demo:
	scripts/demo

# The data of the shop go too.
demo-down:
	target/release/imgforge -C target/demo/shop down --volumes

test:
	scripts/test

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Takes about an hour, on an idle machine. Fewer runs: make bench BENCH="--runs 3"
bench:
	scripts/setup bench </dev/null
	bench/peers
	cargo build --release --locked
	target/release/imgforge -C fixtures/page build
	bench/overhead.py $(BENCH)
	bench/rotate.py $(BENCH)
	bench/rotate.py --storage memory $(BENCH)
	bench/direct.py $(BENCH)
	bench/push.py $(BENCH)
	target/tools/bin/uv run --no-project --with matplotlib bench/plot.py

ci:
	.ci/run
