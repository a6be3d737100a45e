# The two to begin with: `make demo` and `make test`. Both install what is missing.
.PHONY: demo demo-down test lint ci

demo:
	scripts/demo

# The data of the site goes too.
demo-down:
	target/release/imgforge -C fixtures/shop down --volumes

test:
	scripts/test

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

ci:
	.ci/run
