"""Writes the folders beside it: tiny random Qwen2 and Qwen3 in float64, and what transformers says of them.

    python make.py                      rewrites the fixtures (torch and transformers needed)
    python make.py --check DIR EXPECTED loads DIR with from_pretrained and prints the largest
                                        difference of its logits from those in EXPECTED

transformers forces its RMS norms to float32; here they run in the network's own kind, and attention
is SDPA, so that the reference is float64 throughout. The rotary angles stay float32, as they are
part of the network's definition. Each sequence runs alone: no padding, no masks.

expected.safetensors holds `ids.N` and `logits.N` of each sequence, `greedy.N` (12 tokens after
it), the `loss` (sum of the log-probabilities of each next token), `grad.NAME` of every parameter,
and `adamw.NAME`: every parameter after five steps of torch's AdamW that spares vectors from decay.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file, load_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

HERE = pathlib.Path(__file__).parent
SHAPE = dict(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, eos_token_id=None,
    bos_token_id=None, pad_token_id=None, rms_norm_eps=1e-5,
)
SIZES = (9, 14)
# Rate and factor of the gradient in each AdamW step.
ADAMW = [(0.01, 1.0), (0.02, -0.5), (0.02, 2.0), (0.01, 0.1), (0.005, 0.7)]


def own_kind(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


modeling_qwen2.Qwen2RMSNorm.forward = own_kind
modeling_qwen3.Qwen3RMSNorm.forward = own_kind


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa").eval()


def older_layout(folder):
    """config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    assert rope["rope_type"] == "default"
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": config.pop("dtype")}
    path.write_text(json.dumps(config, indent=2) + "\n")


def adamw(model, grads):
    named = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for _, p in named if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, foreach=False, fused=False)
    for rate, factor in ADAMW:
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, parameter in named:
            parameter.grad = grads[name] * factor
        optimizer.step()
    return {f"adamw.{name}": parameter.detach() for name, parameter in named}


def make(name, config, seed, older=False, shard=None):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases as well, so that each of them shows in the logits.
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if parameter.dim() == 1 and parameter.mean() == 1 else 0.0))
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        older_layout(folder)
    model = load(folder)
    out = {}
    total = 0.0
    for index, size in enumerate(SIZES):
        ids = torch.randint(0, config.vocab_size, (size,))
        logits = model(ids[None]).logits[0]
        chosen = logits[:-1].log_softmax(-1).gather(-1, ids[1:, None])
        total = total + chosen.sum()
        greedy = model.generate(ids[None], do_sample=False, max_new_tokens=12, min_new_tokens=12)[0, size:]
        out |= {f"ids.{index}": ids, f"logits.{index}": logits.detach(), f"greedy.{index}": greedy}
    total.backward()
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    out |= {"loss": total.detach()} | {f"grad.{name}": grad for name, grad in grads.items()}
    if name == "qwen3_tied":
        out |= adamw(model, grads)
    save_file({key: value.contiguous() for key, value in out.items()}, folder / "expected.safetensors")


def check(folder, expected):
    model, expected = load(folder), load_file(expected)
    worst = 0.0
    with torch.no_grad():
        for index in range(len(SIZES)):
            logits = model(expected[f"ids.{index}"][None]).logits[0]
            worst = max(worst, (logits - expected[f"logits.{index}"]).abs().max().item())
    print(worst)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:])
        sys.exit()
    rope = {"rope_type": "default", "rope_theta": 500.0}
    qwen2 = lambda tied: Qwen2Config(**SHAPE, tie_word_embeddings=tied, rope_parameters=rope)
    qwen3 = lambda tied: Qwen3Config(**SHAPE, tie_word_embeddings=tied, rope_parameters=rope, head_dim=6)
    make("qwen2_tied", qwen2(True), 1, older=True)
    make("qwen2_untied", qwen2(False), 2)
    make("qwen3_tied", qwen3(True), 3)
    make("qwen3_untied", qwen3(False), 4, older=True, shard="20KB")
