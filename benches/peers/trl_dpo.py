"""One DPO step of TRL's DPOTrainer on the CPU, timed: the peer of `svgrl bench dpo`.

The same 5-million-weight Qwen3, 32 pairs with prompts of 34 tokens, answers whose lengths are given (128
each, or those of real icons), float32, two threads, no gradient checkpointing. The reference policy is
computed at each step, or before the first one with --precompute (`svgrl bench dpo --reference cached`).
Prints one JSON object with the seconds of each counted step.

    python benches/peers/trl_dpo.py --steps 3 [--lengths benches/lengths.json] [--precompute]
"""

import argparse
import json
import tempfile
import time

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer

EOS, PAD, VOCAB, PROMPT, PAIRS = 1022, 1023, 1024, 34, 32


def tokenizer():
    vocab = {f"t{i}": i for i in range(VOCAB - 2)} | {"<eos>": EOS, "<pad>": PAD}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="t0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")


def rows(lengths):
    """Pairs as the trainer's own preparation leaves them."""
    answer = lambda at: [(at * 59 + n * n * 7 + 3) % 1000 for n in range(lengths[at % len(lengths)])]
    return Dataset.from_dict({
        "prompt_ids": [[(i * 131 + at * 17) % 1000 for at in range(PROMPT)] for i in range(PAIRS)],
        "chosen_ids": [answer(2 * i) for i in range(PAIRS)],
        "rejected_ids": [answer(2 * i + 1) for i in range(PAIRS)],
    })


class GivenTokens(DPOTrainer):
    """Takes rows of token ids as they are: the lengths are to be exact."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--lengths")
    parser.add_argument("--precompute", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    lengths = json.load(open(args.lengths)) if args.lengths else [128] * 64
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
    times, mark = [], [0.0]
    trainer = GivenTokens(
        model=model,
        processing_class=tokenizer(),
        train_dataset=rows(lengths),
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=PAIRS, learning_rate=1e-6, max_steps=args.steps + 1,
            max_length=None, logging_steps=1000, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, precompute_ref_log_probs=args.precompute,
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
