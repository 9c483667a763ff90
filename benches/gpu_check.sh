#!/bin/sh
# What only a GPU can show: the tests that compare it with the CPU, a run in float32, in bfloat16 and
# with NCCL, decoding of 7-8B shapes with the launches of a token, whole GRPO steps with the learner's
# share of what the card computes at most, the loop of CTRL-S, the allocator beside the plan.
# Writes its figures to the folder given; at its end what was aimed at stands beside what was measured.
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

# A measurement that fails, for lack of memory say, does not end the others; the end says so.
measure() {
    name=$1
    shift
    if "$@" --json >"$out/$name.json"; then
        tee -a "$out/raw.jsonl" <"$out/$name.json"
    else
        echo "$name: failed" | tee -a "$out/failed"
    fi
}
gpu="--device cuda --dtype bfloat16"
# Decoding: `graph_nodes_per_token_step` is what one launch of a captured step starts; 0: nothing was captured.
measure decode $svgrl bench generate $gpu --model qwen3-8b --batch 256 --prompt 1024 --tokens 256
for model in qwen3-vl-8b qwen2.5-7b; do
    measure "decode-$model" $svgrl bench generate $gpu --model "$model" --batch 128 --tokens 256
done
# Launches of a token step by operators and by a graph, where NVIDIA's profiler is to be had.
if command -v nsys >/dev/null; then
    nsys profile --force-overwrite true --cuda-graph-trace=graph -o "$out/decode" \
        $svgrl bench generate $gpu --model qwen3-1.7b --batch 256 --prompt 64 --tokens 64 --repeat 1 --json >"$out/profiled.json"
    nsys stats --report cuda_api_sum --format csv "$out/decode.nsys-rep" >"$out/launches.csv"
    grep -E "Launch|Synchronize|Memcpy" "$out/launches.csv" || true
else
    echo "nsys is not installed: launches are the graphs' nodes alone" | tee -a "$out/setup.md"
fi
# Learning on packed sequences of about 2,000 tokens. A step keeps 20 bytes a weight in bfloat16: 8 billion
# weights learn by adapters here.
echo "[1966]" >"$out/long.json"
measure learn-1.7b $svgrl bench step $gpu --model qwen3-1.7b --kl 0 --lengths "$out/long.json"
measure learn-8b-lora $svgrl bench step $gpu --model qwen3-8b --lora 64 --kl 0 --lengths "$out/long.json"
# The loop of CTRL-S: pictures in, 64 completions of 1,000 tokens a step; its encoders score beside it.
echo "[1000]" >"$out/thousand.json"
measure loop $svgrl bench step $gpu --model qwen3-vl-8b --lora 64 --kl 0 --lengths "$out/thousand.json"
measure reward $svgrl bench reward --encoders --device cuda

# The plan against what the allocator counts.
python3 benches/plan.py --svgrl $svgrl --device cuda --out "$out/plan.md" || echo "plan: failed" | tee -a "$out/failed"

python3 - "$out" <<'END' | tee "$out/targets.md"
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])


def figure(name, key):
    path = out / f"{name}.json"
    text = path.read_text() if path.exists() else ""
    return json.loads(text)["figures"].get(key) if text.strip() else None


step = figure("loop", "median_step_s")
rows = [
    ("decode, Qwen3-8B shape, batch 256, context 1k: tokens/s", 9000, figure("decode", "median_decode_tokens_per_s")),
    ("learner, Qwen3-1.7B full, packed 2k: MFU", 0.40, figure("learn-1.7b", "mfu")),
    ("learner, Qwen3-8B with LoRA, packed 2k: MFU", 0.40, figure("learn-8b-lora", "mfu")),
    ("CTRL-S loop, Qwen3-VL-8B shape, 1,000 tokens: rollouts/s", 1.5, 64 / step if step else None),
]
print("| what | aim | measured | |\n|---|---|---|---|")
for what, aim, measured in rows:
    said = "not measured" if measured is None else ("reached" if measured >= aim else "MISSED")
    print(f"| {what} | {aim} | {'-' if measured is None else round(measured, 3)} | {said} |")
print(f"\nA captured step of `decode` starts {figure('decode', 'graph_nodes_per_token_step')} kernels and copies with one launch.")
END
