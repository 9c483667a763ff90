# `make setup CUDA=1` takes the CUDA libraries on a machine without a GPU.
SETUP = python3 launch/setup_libtorch.py $(if $(CUDA),--cuda)
# Names a step, runs it, says how long it took and how much of the disk is left (a full one fails tests of all kinds).
left = $$(df -Ph . | awk 'NR == 2 { print $$4 }')
step = @printf '== %s\n' "$(1)"; begun=$$(date +%s); { $(2); }; status=$$?; printf '== %s: %s s, %s of disk left\n' "$(1)" $$(($$(date +%s) - begun)) $(left); exit $$status
SKIPPED = $(CURDIR)/target/skipped.txt

.PHONY: setup quickstart package book test check bench gpu-check engine-test

setup: ## prepare libtorch and .cargo/config.toml
	$(call step,set-up,$(SETUP))

quickstart: ## say how long it takes, set up, build, then train a small policy: SFT, then GRPO
	@launch/quickstart.sh

package: setup ## a folder that runs on a machine without Rust: target/package/svgrl
	cargo build --release && python3 launch/package.py

book: ## docs/ as HTML in book/
	docs/book.py

check: setup ## formatting, lints, documentation and the book
	$(call step,formatting,cargo fmt --all --check)
	$(call step,lints,cargo clippy --workspace --all-targets -- -D warnings && cargo clippy -p svgrl-rewards -- -D warnings)
	$(call step,documentation,RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps)
	$(call step,book,docs/book.py)

test: check ## everything that must pass before a commit; needs the Python packages of launch/setup_test_python.py
	$(call step,set-up of the tests' Python,python3 launch/setup_test_python.py)
	@mkdir -p $(dir $(SKIPPED)) && rm -f $(SKIPPED)
	$(call step,tests,SVGRL_TEST_PYTHON=$$(python3 launch/setup_test_python.py) SVGRL_SKIPPED=$(SKIPPED) cargo test --workspace)
	$(call step,kills and lost power,SVGRL=$(CURDIR)/target/debug/svgrl benches/kills.py --seconds 150)
	@if [ -s $(SKIPPED) ]; then echo "skipped: $$(wc -l < $(SKIPPED))"; sed 's/^/  /' $(SKIPPED); else echo "nothing skipped"; fi

bench: setup ## figures for this machine
	cargo build --release && target/release/svgrl bench render && target/release/svgrl bench reward && target/release/svgrl bench generate && target/release/svgrl bench step

gpu-check: setup ## what only a GPU can show; figures to benches/runs
	cargo build --release && benches/gpu_check.sh

engine-test: setup ## a real vLLM and a real SGLang on this CPU, installed from PyPI: an hour or two on two cores, 5.5 GB of disk
	cargo build --release && tests/engines/real.py all
