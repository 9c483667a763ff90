"""In the place of SGLang's compiled kernels, which PyPI has for CUDA alone: they are imported by name on the CPU too, and
never called there with the options of start.py."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*_, **__):
        raise NotImplementedError(f"sgl_kernel.{name}: no kernels on the CPU")

    return absent
