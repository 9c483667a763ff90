"""Writes expected.json: what the bert_score package says of pairs of texts with the tiny network of
../encoders/bge_m3, computing in float64.

    python make.py      (bert_score, torch, transformers needed)

Each pair is scored alone: the package lets the padding of a batch cut negative cosines to 0. The folder's
tokenizer does not name its special tokens as XLM-RoBERTa's class does, so they are named here.
"""

import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"

from bert_score import BERTScorer

HERE = pathlib.Path(__file__).parent
PAIRS = [
    ("a red circle", "a red circle"),
    ("a red circle", "a blue star"),
    ("  a Large  green square, beside two small triangles! ", "two small triangles beside a large green square"),
    ("star", "a red circle above a blue star"),
    ("a red circle above a blue star", "star"),
    ("circle " * 300, "a circle"),
    ("circle!", "square </s> with a </s> token"),
]


def main():
    rows = []
    for layer in (1, 2):
        scorer = BERTScorer(model_type=str(HERE.parent / "encoders/bge_m3"), num_layers=layer, device="cpu")
        scorer._tokenizer.cls_token, scorer._tokenizer.sep_token = "<s>", "</s>"
        scorer._model.double()
        for completion, reference in PAIRS:
            precision, recall, f1 = (float(score) for score in scorer.score([completion], [reference]))
            rows.append({"layer": layer, "completion": completion, "reference": reference,
                         "precision": precision, "recall": recall, "f1": f1})
    (HERE / "expected.json").write_text(json.dumps(rows, indent=0) + "\n")


if __name__ == "__main__":
    main()
