"""For a server without a GPU, in PYTHONPATH: memory is never pinned. SGLang's adapters ask for pinned memory whatever the
device, which PyTorch has beside a GPU alone; it changes how fast copies are, and no number."""

import functools

import torch


def unpinned(make):
    @functools.wraps(make)
    def made(*arguments, pin_memory=False, **options):
        return make(*arguments, **options)

    return made


for name in ("tensor", "empty", "zeros", "ones", "full", "arange", "empty_like", "zeros_like"):
    setattr(torch, name, unpinned(getattr(torch, name)))
torch.Tensor.pin_memory = lambda own, *_: own
