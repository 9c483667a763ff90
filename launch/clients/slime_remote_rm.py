"""Reward for slime, judged by a scoring service.

With this file's folder on PYTHONPATH:
    --custom-rm-path slime_remote_rm.reward --rm-url http://HOST:8700
A sample's `label` holds the reference's keys and `task` (a dict, or the same as JSON). The answer is
the number, or the service's whole row where `--reward-key` (`reward`, `total`) picks it out. slime's own `--rm-type remote_rm --rm-url http://HOST:8700/score --reward-key reward` works
as well, but knows no token and does not tell a refusal from an outage.
"""

import asyncio
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from svgrl_client import client, row, text  # noqa: E402


def _row(sample):
    status = getattr(getattr(sample, "status", None), "value", None)
    return row(sample.response, sample.label, prompt=text(sample.prompt or ""), truncated=status == "truncated")


async def reward(args, sample, **_):
    """The reward of one sample, or of each in a list."""
    samples = sample if isinstance(sample, list) else [sample]
    url = (getattr(args, "rm_url", None) or "").rstrip("/").removesuffix("/score") or None
    judge = client(url=url).score
    answers = await asyncio.to_thread(judge, [_row(s) for s in samples])
    # With a key set, slime takes the number out of a dict by itself.
    rewards = answers if getattr(args, "reward_key", None) else [answer["reward"] for answer in answers]
    return rewards if isinstance(sample, list) else rewards[0]
