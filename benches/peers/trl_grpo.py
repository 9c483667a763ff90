"""One GRPO step of TRL's GRPOTrainer on the CPU, timed: the peer of `svgrl bench step`.

The same 5-million-weight Qwen3, 8 prompts of 34 tokens, 8 completions each whose lengths are forced,
a reward that renders 64 SVG files with CairoSVG and takes the mean squared error, float32, two
threads. Prints one JSON object with the seconds of each counted step.

    python benches/peers/trl_grpo.py --steps 6 --kl 0.04 [--lengths benches/lengths.json]
"""

import argparse
import io
import json
import tempfile
import time

import cairosvg
import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

EOS, PAD, VOCAB, PROMPT = 1022, 1023, 1024, 34


class ForcedLengths(LogitsProcessor):
    """Row i emits the end token at exactly its length, and never before."""

    def __init__(self, lengths, prompt):
        self.lengths, self.prompt = lengths, prompt

    def __call__(self, ids, scores):
        done = ids.shape[1] - self.prompt
        ends = torch.tensor([done >= self.lengths[i % len(self.lengths)] - 1 for i in range(len(ids))])
        scores[:, EOS] = -torch.inf
        scores[:, PAD] = -torch.inf
        scores[ends] = -torch.inf
        scores[ends, EOS] = 0.0
        return scores


def tokenizer():
    vocab = {f"t{i}": i for i in range(VOCAB - 2)} | {"<eos>": EOS, "<pad>": PAD}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="t0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")


def picture(svg):
    png = cairosvg.svg2png(bytestring=svg.encode(), output_width=224, output_height=224, background_color="white")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64) / 255


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--kl", type=float, default=0.04)
    parser.add_argument("--lengths")
    parser.add_argument("--svg", required=True, help="JSONL rows with `svg`")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    lengths = json.load(open(args.lengths)) if args.lengths else [128] * 64
    drawings = [json.loads(line)["svg"] for line in open(args.svg)][:64]
    references = [picture(svg) for svg in drawings[:8]]
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, tie_word_embeddings=True, eos_token_id=EOS, pad_token_id=PAD,
        bos_token_id=None,
    )
    # The trainer loads its reference policy from the folder that the policy came from.
    folder = tempfile.mkdtemp()
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    model = Qwen3ForCausalLM.from_pretrained(folder)
    prompts = [" ".join(f"t{(i * 131 + at * 17) % 1000}" for at in range(PROMPT)) for i in range(8)]
    plain = model.generate

    def forced(*inputs, **options):
        options["logits_processor"] = LogitsProcessorList([ForcedLengths(lengths, PROMPT)])
        return plain(*inputs, **options)

    model.generate = forced

    def reward(completions, **_):
        return [1 - float(((picture(drawings[i % 64]) - references[i // 8 % 8]) ** 2).mean()) for i in range(len(completions))]

    times, mark = [], [0.0]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        processing_class=tokenizer(),
        train_dataset=Dataset.from_dict({"prompt": prompts * (args.steps + 1)}),
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=64, num_generations=8, max_completion_length=max(lengths),
            beta=args.kl, learning_rate=1e-6, max_steps=args.steps + 1, logging_steps=1000, save_strategy="no", report_to=[],
            use_cpu=True, bf16=False, gradient_checkpointing=False, temperature=1.0, disable_tqdm=True, shuffle_dataset=False,
        ),
    )
    step = trainer.training_step

    def timed(*inputs, **options):
        mark[0] = time.perf_counter()
        return step(*inputs, **options)

    trainer.training_step = timed
    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.perf_counter() - mark[0])

    trainer.add_callback(Clock())
    trainer.train()
    print(json.dumps({"step_s": times[1:]}))


if __name__ == "__main__":
    main()
