# `make setup CUDA=1` takes the CUDA libraries on a machine without a GPU.
SETUP = python3 launch/setup_libtorch.py $(if $(CUDA),--cuda)

.PHONY: setup quickstart test check bench gpu-check

setup: ## prepare libtorch and .cargo/config.toml
	@$(SETUP)

quickstart: setup ## build, then train a small policy: SFT, then GRPO
	cargo build --release && target/release/svgrl train configs/quickstart.yaml

check: setup ## formatting, lints and documentation
	cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && cargo clippy -p svgrl-rewards -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test: check ## everything that must pass before a commit
	cargo test --workspace

bench: setup ## figures for this machine
	cargo build --release && target/release/svgrl bench render && target/release/svgrl bench reward && target/release/svgrl bench generate && target/release/svgrl bench step

gpu-check: setup ## what only a GPU can show; figures to benches/runs
	cargo build --release && benches/gpu_check.sh
