#!/bin/sh
# What only a GPU can show: the CUDA build runs, bfloat16 and float32 give the same picture, two
# 7-8B shapes decode and take a whole GRPO step. Writes its figures to the folder given.
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
$svgrl train configs/quickstart.yaml --device cuda --run-dir "$out/quickstart" --set stages.sft.steps=50 --set stages.rl.steps=20
$svgrl train configs/quickstart.yaml --device cuda --dtype bfloat16 --run-dir "$out/quickstart-bf16" --set stages.sft.steps=50 --set stages.rl.steps=20
$svgrl launch --nproc-per-node 1 -- train configs/quickstart.yaml --device cuda --run-dir "$out/quickstart-nccl" --set stages.sft.steps=5 --set stages.rl.steps=2
for model in qwen3-8b qwen2.5-7b; do
    $svgrl bench generate --device cuda --dtype bfloat16 --model "$model" --batch 128 --tokens 256 --json | tee -a "$out/raw.jsonl"
done
$svgrl bench step --device cuda --dtype bfloat16 --model qwen2.5-7b --kl 0 --json | tee -a "$out/raw.jsonl"
