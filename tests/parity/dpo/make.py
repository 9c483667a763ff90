"""Writes losses.json and network.safetensors: the loss of TRL's own DPOTrainer (1.16) in float64.

The trainer is made on a tiny network, then its `_compute_loss` is given what a case says: token
log-probabilities in the place of a network's, reference sums in the place of precomputed ones. Losses
that TRL has under another name:

sigmoid with label smoothing   its `aot` of one pair at a time (there is nothing to sort), the mean of all
average_logprobs               its `sigmoid_norm`
sft_weight                     its loss types [x, sft] with weights [1, w]

network.safetensors is one batch of pairs through tests/parity/networks/qwen3_untied: TRL's loss on the
network's log-probabilities, and the gradient of every parameter.

    python tests/parity/dpo/make.py
"""

import json
import pathlib
import tempfile
import types

import torch
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.qwen3 import modeling_qwen3
from trl import DPOConfig, DPOTrainer

HERE = pathlib.Path(__file__).parent
NETWORK = HERE.parent / "networks" / "qwen3_untied"
# Prompt, chosen and rejected tokens of each pair.
LENGTHS = [(3, 4, 2), (2, 1, 6), (5, 3, 3), (1, 7, 5), (4, 2, 8)]


def own_kind(self, x):
    """The norm without transformers' detour through float32, as in networks/make.py."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


modeling_qwen3.Qwen3RMSNorm.forward = own_kind


def trainer():
    model = AutoModelForCausalLM.from_pretrained(NETWORK, dtype=torch.float64, attn_implementation="sdpa")
    inner = Tokenizer(models.WordLevel({f"t{i}": i for i in range(62)} | {"<e>": 62, "<p>": 63}, unk_token="t0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", pad_token="<p>")
    rows = Dataset.from_dict({"prompt": ["t1"] * 2, "chosen": [" t2"] * 2, "rejected": [" t3"] * 2})
    made = DPOTrainer(
        model=model,
        processing_class=words,
        train_dataset=rows,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
            precompute_ref_log_probs=True, disable_tqdm=True, per_device_train_batch_size=2,
        ),
    )
    made.model.train()
    return made


def batch(lengths, reference):
    """TRL's inputs: all chosen sequences, then all rejected ones, padded."""
    sequences = [(p, c) for p, c, _ in lengths] + [(p, r) for p, _, r in lengths]
    longest = max(p + n for p, n in sequences)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    attention = torch.zeros_like(mask)
    for i, (p, n) in enumerate(sequences):
        mask[i, p : p + n] = 1
        attention[i, : p + n] = 1
    return dict(
        input_ids=torch.zeros_like(mask), attention_mask=attention, completion_mask=mask,
        ref_chosen_logps=reference[0], ref_rejected_logps=reference[1],
    )


def outputs(log_probs):
    still = log_probs.detach()
    return types.SimpleNamespace(
        log_probs=log_probs, entropy=still, mean_logits=still, is_top1=still > 0, log_sum_sq_probs=still,
    )


def loss_of(made, options, lengths, tokens, reference):
    """TRL's loss of pairs whose completions have these token log-probabilities."""
    made.beta, made.label_smoothing = options["beta"], options["label_smoothing"]
    kind = options["loss"]
    name = {"sigmoid": "sigmoid_norm" if options["average_logprobs"] else "sigmoid"}.get(kind, kind)
    if kind == "sigmoid" and options["label_smoothing"] > 0:
        name = "aot"
    made.loss_types, made.loss_weights = [name], [1.0]
    if options["sft_weight"]:
        made.loss_types, made.loss_weights = [name, "sft"], [1.0, options["sft_weight"]]
    inputs = batch(lengths, reference)
    shifted = inputs["completion_mask"][:, 1:].bool()
    # Rows chosen first, then rejected: as the flat list is laid out.
    log_probs = torch.zeros(shifted.shape, dtype=torch.float64).masked_scatter(shifted, tokens)
    made._metrics["train"].clear()
    loss = made._compute_loss(lambda **_: outputs(log_probs), inputs, False)
    return loss, {name: values[-1] for name, values in made._metrics["train"].items()}


def case(made, data, **given):
    options = dict(loss="sigmoid", beta=0.1, label_smoothing=0.0, sft_weight=0.0, average_logprobs=False) | given
    flat = torch.tensor(sum(data["chosen"], []) + sum(data["rejected"], []), dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([data["reference_chosen"], data["reference_rejected"]], dtype=torch.float64)
    if options["loss"] == "sigmoid" and options["label_smoothing"] > 0:
        assert not options["sft_weight"] and not options["average_logprobs"]
        starts_chosen = [sum(c for _, c, _ in LENGTHS[:i]) for i in range(len(LENGTHS))]
        all_chosen = sum(c for _, c, _ in LENGTHS)
        starts_rejected = [all_chosen + sum(r for _, _, r in LENGTHS[:i]) for i in range(len(LENGTHS))]
        losses = []
        for i, (p, c, r) in enumerate(LENGTHS):
            own = torch.cat([flat[starts_chosen[i] :][:c], flat[starts_rejected[i] :][:r]])
            losses.append(loss_of(made, options, [LENGTHS[i]], own, reference[:, i : i + 1])[0])
        loss = torch.stack(losses).mean()
        # The statistics know no loss.
        metrics = loss_of(made, options | {"label_smoothing": 0.0}, LENGTHS, flat, reference)[1]
    else:
        loss, metrics = loss_of(made, options, LENGTHS, flat, reference)
    loss.backward()
    return dict(
        options=options, loss=loss.item(), gradient=flat.grad.tolist(), accuracy=metrics["rewards/accuracies"],
        margin=metrics["rewards/margins"], chosen_logp=metrics["logps/chosen"], rejected_logp=metrics["logps/rejected"],
    )


def losses(made):
    generator = torch.Generator().manual_seed(5)
    draw = lambda n: (-torch.empty(n, dtype=torch.float64).exponential_(1.0, generator=generator))
    chosen = [draw(c).tolist() for _, c, _ in LENGTHS]
    rejected = [draw(r).tolist() for _, _, r in LENGTHS]
    near = lambda values: sum(values) + 3 * torch.randn(1, dtype=torch.float64, generator=generator).item()
    data = dict(
        chosen=chosen, rejected=rejected,
        reference_chosen=[near(values) for values in chosen], reference_rejected=[near(values) for values in rejected],
    )
    cases = [case(made, data, loss=loss, beta=beta) for loss in ["sigmoid", "hinge", "ipo"] for beta in [0.05, 0.1, 0.7]]
    cases += [case(made, data, label_smoothing=s, beta=b) for s in [0.1, 0.3] for b in [0.1, 0.5]]
    cases += [case(made, data, loss="robust", label_smoothing=s) for s in [0.0, 0.1, 0.4]]
    cases += [case(made, data, average_logprobs=True, beta=b) for b in [0.1, 2.0]]
    cases += [case(made, data, loss=loss, sft_weight=w) for loss in ["sigmoid", "hinge", "ipo"] for w in [0.2, 1.0]]
    cases += [case(made, data, average_logprobs=True, sft_weight=0.5)]
    return dict(lengths=LENGTHS, data=data, cases=cases)


def network(made):
    """TRL's loss on a whole network's log-probabilities, with the gradient of every parameter."""
    model = made.model
    token = lambda n: (n * 37 + 11) % 60
    rows = []
    for pair, (p, c, r) in enumerate(LENGTHS):
        prompt = [token(n + 100 * pair) for n in range(p)]
        rows.append([prompt, [token(n * n + 7 * pair + 3) for n in range(c)], [token(n * n + 5 * pair + 29) for n in range(r)]])
    reference = torch.tensor([[-4.3 * c for _, c, _ in LENGTHS], [-4.1 * r for _, _, r in LENGTHS]], dtype=torch.float64)
    inputs = batch(LENGTHS, reference)
    for i, (prompt, chosen, rejected) in enumerate(rows):
        for at, ids in [(i, prompt + chosen), (i + len(rows), prompt + rejected)]:
            inputs["input_ids"][at, : len(ids)] = torch.tensor(ids)

    def through(input_ids, attention_mask, labels, **_):
        logits = model.__class__.forward(model, input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
        labels = labels[:, 1:]
        picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return outputs(picked.masked_fill(labels == -100, 0.0))

    made.beta, made.label_smoothing = 0.3, 0.0
    made.loss_types, made.loss_weights = ["sigmoid", "sft"], [1.0, 0.2]
    model.zero_grad()
    loss = made._compute_loss(through, inputs, False)
    loss.backward()
    tensors = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())
    save_file({"loss": loss.detach().view(1)} | tensors, HERE / "network.safetensors")
    return dict(rows=rows, reference=reference.tolist(), beta=0.3, sft_weight=0.2)


if __name__ == "__main__":
    made = trainer()
    content = losses(made)
    content["network"] = network(made)
    (HERE / "losses.json").write_text(json.dumps(content) + "\n")
