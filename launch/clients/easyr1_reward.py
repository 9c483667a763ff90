"""Reward for EasyR1, judged by a scoring service.

    worker.reward.reward_type=batch
    worker.reward.reward_function=launch/clients/easyr1_reward.py:compute_score
    worker.reward.reward_function_kwargs='{"url": "http://HOST:8700"}'
A row's `ground_truth` holds the reference's keys and `task`, as a dict or as JSON.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from svgrl_client import client, row  # noqa: E402

REWARD_NAME = "svgrl"
REWARD_TYPE = "batch"


def compute_score(reward_inputs, url=None, token=None):
    """`overall` and every part, for each of a batch."""
    if not isinstance(reward_inputs, list):
        raise ValueError("reward_type: must be batch")
    rows = [row(each["response"], each.get("ground_truth")) for each in reward_inputs]
    answers = client(url=url, token=token).score(rows)
    return [
        {**{"part_" + name: value for name, value in answer["parts"].items()}, "overall": answer["reward"]}
        for answer in answers
    ]
