"""Reward for verl, judged by a scoring service.

    custom_reward_function.path=launch/clients/verl_reward.py
    custom_reward_function.name=compute_score            (or compute_score_batch with the batch manager)
    +custom_reward_function.reward_kwargs.url=http://HOST:8700
A row's `ground_truth` holds the reference's keys and `task`, as a dict or as JSON; `extra_info` may
hold `prompt` and `truncated`. Each part of the reward comes back beside `score` and is logged; a part that
a row's task has not is NaN, since verl wants the same keys of every row.
"""

import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from svgrl_client import client, row, text  # noqa: E402


def _row(solution, truth, extra):
    extra = extra or {}
    prompt = extra.get("prompt")
    return row(
        solution,
        truth,
        prompt=None if prompt is None else text(prompt),
        truncated=bool(extra.get("truncated", False)),
    )


def _results(judge, rows):
    answers = judge.score(rows)
    names = judge.parts()
    return [_result(answer, names) for answer in answers]


def _result(answer, names):
    parts = {"part_" + name: answer["parts"].get(name, math.nan) for name in names}
    return {"score": answer["reward"], "valid": float(answer["valid"]), **parts}


def compute_score(data_source, solution_str, ground_truth, extra_info=None, url=None, token=None, **_):
    """One completion."""
    return _results(client(url=url, token=token), [_row(solution_str, ground_truth, extra_info)])[0]


def compute_score_batch(data_sources, solution_strs, ground_truths, extra_infos=None, url=None, token=None, **_):
    """All completions of a step in one request."""
    extras = extra_infos if extra_infos is not None else [None] * len(solution_strs)
    rows = [_row(*each) for each in zip(solution_strs, ground_truths, extras)]
    return _results(client(url=url, token=token), rows)
