"""Tokens per second of transformers' generate() on the CPU: the peer of `svgrl bench generate`.

    python benches/peers/transformers_generate.py --batch 8 --tokens 256 --repeat 3
"""

import argparse
import json
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(2)
    config = Qwen3Config(
        vocab_size=1024, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, tie_word_embeddings=True, eos_token_id=None, pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config).eval()
    prompts = torch.tensor([[(i * 131 + at * 17) % 1000 for at in range(34)] for i in range(args.batch)])
    rates = []
    for _ in range(args.repeat + 1):
        start = time.perf_counter()
        out = model.generate(prompts, do_sample=True, top_k=0, max_new_tokens=args.tokens, min_new_tokens=args.tokens)
        rates.append(args.batch * (out.shape[1] - 34) / (time.perf_counter() - start))
    print(json.dumps({"tokens_per_s": rates[1:]}))


if __name__ == "__main__":
    main()
