"""Reward for TRL's GRPOTrainer, judged by a scoring service.

    from trl_reward import svgrl_reward, make_reward
    GRPOTrainer(reward_funcs=[svgrl_reward], ...)        # or make_reward(url="http://HOST:8700")
The dataset's columns say what each completion is judged against: `label`, or `svg`, `image` (a picture of
Pillow, or a PNG in base64) and `text`; `task` where the service has several.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from svgrl_client import client, row, text  # noqa: E402


def make_reward(url=None, token=None):
    """A reward function that asks the service at `url`."""

    def svgrl_reward(prompts, completions, trainer_state=None, **columns):
        def at(name, i):
            return columns[name][i] if columns.get(name) is not None else None

        # TRL counts the steps that are done, svgrl the one that is being made.
        step = None if trainer_state is None else trainer_state.global_step + 1
        rows = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions)):
            label = at("label", i)
            if label is None:
                label = {key: at(key, i) for key in ("svg", "image", "text")}
            made = row(completion, label, prompt=text(prompt), step=step)
            if at("task", i) is not None:
                made["task"] = at("task", i)
            rows.append(made)
        return [answer["reward"] for answer in client(url=url, token=token).score(rows)]

    return svgrl_reward


svgrl_reward = make_reward()
