"""Writes losses.json and advantages.json: the policy loss and the advantages in float64 NumPy.

Each formula is written per token as in its paper, with its derivative by hand, case by case:

ratio        r = exp(logp - old); without old it is 1 and its derivative that of exp(logp - const)
A >= 0       -r A; beyond 1 + high the constant -(1 + high) A         (Schulman et al. 2017)
A < 0        -r A; below 1 - low the constant -(1 - low) A; above -c A the constant -c A (dual clip)
importance   times min(exp(old - sampler), cap), a constant; without old it is logp's
correction   times a constant of r = exp(before - sampler), before being old's or else logp's (with anchor `sampler` logp's,
             and the ratio is to the sampler): truncated min(max(r, low), high), masked r within and 0 outside, both over r
             where the anchor is the sampler; r of a token or the product over a completion; opsm 0 where A < 0 and
             the mean of sampler - before is above delta, else 1
KL           of d = ref - logp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d     (Schulman 2020)
entropy      minus coefficient times H
"""

import itertools
import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
LENGTHS = [3, 7, 1, 8, 5]
ADVANTAGES = [0.75, -1.5, 0.5, -0.25, 1.25]
CONSTANT = 6.0


def token_weights(aggregation):
    n, count = sum(LENGTHS), len(LENGTHS)
    of = {
        "token_mean": lambda length: 1 / n,
        "sequence_mean": lambda length: 1 / count / length,
        "constant_length": lambda length: 1 / (count * CONSTANT),
    }[aggregation]
    return np.repeat([of(length) for length in LENGTHS], LENGTHS)


def surrogate(logp, old, a, low, high, dual):
    """Value and derivative by logp of one token's clipped surrogate."""
    r = 1.0 if old is None else np.exp(logp - old)
    value, slope = -r * a, -r * a
    if a >= 0 and high is not None and r > 1 + high:
        value, slope = -(1 + high) * a, 0.0
    if a < 0 and low is not None and r < 1 - low:
        value, slope = -(1 - low) * a, 0.0
    if a < 0 and dual is not None and value > -dual * a:
        value, slope = -dual * a, 0.0
    return r, value, slope


def kl(logp, ref, estimator):
    d = ref - logp
    return {"k1": (-d, 1.0), "k2": (d * d / 2, -d), "k3": (np.exp(d) - 1 - d, 1 - np.exp(d))}[estimator]


def correction_weights(how, raw, advantage):
    """One weight a token."""
    out, start = [], 0
    for length in LENGTHS:
        own = raw[start:start + length]
        if how["method"] == "opsm":
            masked = advantage[start] < 0 and -own.mean() > how["delta"]
            out += [0.0 if masked else 1.0] * length
        else:
            logs = own if how["level"] == "token" else np.full(length, own.sum())
            for r in np.exp(logs):
                held = r if how["anchor"] == "sampler" else 1.0
                within = how["low"] <= r <= how["high"]
                of = {"none": held, "truncated": min(max(r, how["low"]), how["high"]), "masked": r * within}
                out.append(of[how["method"]] / held)
        start += length
    return np.array(out)


def case(data, clip=(0.2, 0.2), dual=None, old=False, kl_term=None, entropy=0.0, cap=None, aggregation="token_mean", correction=None):
    weight = token_weights(aggregation)
    n = len(weight)
    grad, sums, loss = np.zeros(n), np.zeros(9), 0.0
    at_sampler = correction is not None and correction["anchor"] == "sampler"
    before = np.array(data["old"] if old and not at_sampler else data["logprobs"])
    raw = before - np.array(data["sampler"])
    corrected = np.ones(n) if correction is None else correction_weights(correction, raw, data["advantage"])
    anchor = data["sampler"] if at_sampler else data["old"]
    for i in range(n):
        logp, a = data["logprobs"][i], data["advantage"][i]
        r, value, slope = surrogate(logp, anchor[i] if old or at_sampler else None, a, *clip, dual)
        if cap is not None:
            w = min(np.exp((data["old"][i] if old else logp) - data["sampler"][i]), cap)
            value, slope = value * w, slope * w
        value, slope = value * corrected[i], slope * corrected[i]
        sums[0] += weight[i] * value
        if kl_term is not None:
            k, dk = kl(logp, data["reference"][i], kl_term[1])
            value, slope = value + kl_term[0] * k, slope + kl_term[0] * dk
            sums[2] += k
        value -= entropy * data["entropy"][i]
        loss += weight[i] * value
        grad[i] = weight[i] * slope
        gap = logp - data["sampler"][i]
        sums[1] += data["entropy"][i]
        sums[3] += np.exp(gap) - 1 - gap
        sums[4] += r
        sums[5] += clip[0] is not None and a < 0 and r < 1 - clip[0]
        sums[6] += clip[1] is not None and a > 0 and r > 1 + clip[1]
        sums[7] += np.exp(raw[i])
        sums[8] += np.exp(raw[i]) - 1 - raw[i]
    options = dict(clip=clip, dual_clip=dual, old=old, kl=kl_term, entropy=entropy, importance_cap=cap, aggregation=aggregation, correction=correction)
    return dict(options=options, loss=loss, grad_logprobs=grad.tolist(), grad_entropy=(-entropy * weight).tolist(), sums=sums.tolist())


def losses():
    rng = np.random.default_rng(7)
    n = sum(LENGTHS)
    logp = -rng.exponential(1.5, n)
    near = lambda scale: (logp + rng.normal(0, scale, n)).tolist()
    data = dict(
        logprobs=logp.tolist(), entropy=rng.uniform(0.1, 3, n).tolist(), old=near(0.5), sampler=near(0.2),
        reference=near(0.7), advantage=np.repeat(ADVANTAGES, LENGTHS).tolist(),
    )
    cases = []
    clips = [(None, None), (0.2, 0.2), (0.1, 0.3), (None, 0.2), (0.2, None)]
    for clip, dual, old in itertools.product(clips, [None, 1.5], [False, True]):
        cases.append(case(data, clip, dual, old))
    for estimator, old in itertools.product(["k1", "k2", "k3"], [False, True]):
        cases.append(case(data, old=old, kl_term=(0.3, estimator)))
    for old in [False, True]:
        cases.append(case(data, old=old, entropy=0.05))
        cases.append(case(data, old=old, cap=1.1))
        cases.append(case(data, old=old, cap=100.0))
    for aggregation, estimator in itertools.product(["token_mean", "sequence_mean", "constant_length"], ["k1", "k2", "k3"]):
        cases.append(case(data, (0.1, 0.3), 1.4, True, (0.04, estimator), 0.01, 1.2, aggregation))
        cases.append(case(data, (0.1, 0.3), 1.4, False, (0.04, estimator), 0.01, 1.2, aggregation))
    for level, method, anchor, old in itertools.product(
        ["token", "sequence"], ["truncated", "masked", "opsm", "none"], ["recomputed", "sampler"], [False, True]
    ):
        if (level, method, anchor) == ("sequence", "truncated", "sampler"):
            continue
        how = dict(level=level, method=method, anchor=anchor, low=0.7, high=1.25, delta=0.01)
        cases.append(case(data, (0.1, 0.3), None, old, (0.04, "k3"), 0.01, None, "token_mean", how))
    return dict(lengths=LENGTHS, advantages=ADVANTAGES, constant=CONSTANT, data=data, cases=cases)


def advantages():
    rng = np.random.default_rng(8)
    groups = [rng.uniform(0, 1, 4), np.full(4, 0.4), rng.uniform(-1, 0.2, 4), np.array([0.0, 0.0, 0.0, 1.0])]
    every = np.concatenate(groups)
    cases = []
    stds = ["group", "batch_raw", "batch_centred", "none"]
    for mean, std, unbiased, epsilon in itertools.product(["group", "batch"], stds, [True, False], [0.0, 1e-4, 0.5]):
        centred = [g - (g.mean() if mean == "group" else every.mean()) for g in groups]
        ddof = int(unbiased)
        batch = {"batch_raw": every.std(ddof=ddof), "batch_centred": np.concatenate(centred).std(ddof=ddof)}
        out = []
        for group, values in zip(groups, centred):
            scale = 1.0 if std == "none" else (group.std(ddof=ddof) if std == "group" else batch[std]) + epsilon
            # A group whose rewards are all equal teaches nothing, whatever the batch's mean.
            out.append(np.zeros(4).tolist() if np.ptp(group) == 0 else (values / scale).tolist())
        cases.append(dict(mean=mean, std=std, unbiased=unbiased, epsilon=epsilon, advantages=out))
    return dict(groups=[group.tolist() for group in groups], cases=cases)


if __name__ == "__main__":
    for name, content in [("losses", losses()), ("advantages", advantages())]:
        (HERE / f"{name}.json").write_text(json.dumps(content) + "\n")
