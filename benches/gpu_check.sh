#!/bin/sh
# What only a GPU can show: the tests that compare it with the CPU, a run in float32, in bfloat16 and
# with NCCL, decoding of 7-8B shapes, and a whole GRPO step of the largest shape that one card holds.
# Writes its figures to the folder given.
#
#     benches/gpu_check.sh benches/runs/DATE-MACHINE
set -eu
out=${1:-benches/runs/$(date +%F)-$(hostname)-gpu}
svgrl=target/release/svgrl
mkdir -p "$out"
{
    echo "commit $(git rev-parse HEAD)"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
} >"$out/setup.md"
cargo test --release --workspace --test tests devices:: 2>&1 | tee "$out/tests.log"
short="--set stages.sft.steps=50 --set stages.rl.steps=20"
$svgrl train configs/quickstart.yaml --device cuda --run-dir "$out/quickstart" $short
$svgrl train configs/quickstart.yaml --device cuda --dtype bfloat16 --run-dir "$out/quickstart-bf16" $short
$svgrl launch --nproc-per-node 1 -- train configs/quickstart.yaml --device cuda --run-dir "$out/quickstart-nccl" --set stages.sft.steps=5 --set stages.rl.steps=2
for model in qwen3-vl-8b qwen2.5-7b; do
    $svgrl bench generate --device cuda --dtype bfloat16 --model "$model" --batch 128 --tokens 256 --json | tee -a "$out/raw.jsonl"
done
# A step keeps 20 bytes a weight in bfloat16: 7 billion weights need several cards.
$svgrl bench step --device cuda --dtype bfloat16 --model qwen3-1.7b --kl 0 --json | tee -a "$out/raw.jsonl"
$svgrl bench reward --encoders --device cuda --json | tee -a "$out/raw.jsonl"
