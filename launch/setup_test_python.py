#!/usr/bin/env python3
"""Prepares the Python that the tests ask about transformers, and prints its path.

    python3 launch/setup_test_python.py

Makes a virtual environment with PyTorch, transformers, PEFT and what they need, at
fixed versions from the Python package index, in the user's cache folder (shared
by all clones, made aside and renamed when whole). A SVGRL_TEST_PYTHON set by the
user is taken as it is; `none` leaves those tests out. Needs Python 3.11 to 3.14
with pip and a C compiler, on Linux x86-64; about 650 MB are downloaded and
1.7 GB stay on disk.

The index has torch for this platform with CUDA alone, 5 GB of it. A machine
without a GPU never calls CUDA's mathematics, so the libraries that torch's
loader asks for by name are empty ones here, and symbols are bound when they are
first called. Only CUDA's runtime is real: torch asks it how many GPUs there are.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Without the requirements of torch and torchvision themselves, which are CUDA's; peft and accelerate, the reference of LoRA,
# ask for torch and for what is below.
BARE = ["torch==2.11.0", "torchvision==0.26.0", "peft==0.21.2", "accelerate==1.15.0"]
PACKAGES = [
    "transformers==5.23.0", "tokenizers==0.23.3", "safetensors==0.8.0", "huggingface-hub==1.33.0",
    "numpy==2.4.6", "pillow==13.0.0", "sympy==1.14.0", "networkx==3.6.1", "jinja2==3.1.6", "fsspec==2026.9.0",
    "filelock==4.3.1", "setuptools==81.0.0", "typing-extensions==4.16.0", "regex==2026.11.19",
    "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85",
    "psutil==7.2.2",
]
# What torch's libraries name and a CPU never calls.
EMPTY = [
    "libcublas.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libcufft.so.12", "libcufile.so.0", "libcurand.so.10",
    "libcusparse.so.12", "libcusparseLt.so.0", "libnccl.so.2", "libnvshmem_host.so.3",
]
LAZY = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
WAY_OUT = "name a Python with torch and transformers in SVGRL_TEST_PYTHON, or leave its tests out with SVGRL_TEST_PYTHON=none"


class SetupError(Exception):
    """One sentence for the user."""


def main():
    own = os.environ.get("SVGRL_TEST_PYTHON")
    try:
        print(own if own else cached())
    except SetupError as error:
        sys.exit(f"setup: {error}; {WAY_OUT}")
    except OSError as error:
        sys.exit(f"setup: {error.strerror or error}: {error.filename or 'no file named'}; {WAY_OUT}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; nothing half-made is left, run it again")


def cached():
    """The cache's interpreter, made if it is not there."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError("only Linux x86-64 has the packages that the tests' Python is made of")
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        raise SetupError(f"the tests' Python must be 3.11 to 3.14, this is {platform.python_version()}")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(home).absolute() / "svgrl"
    made_of = [*BARE, *PACKAGES, *EMPTY, LAZY, sys.executable, platform.python_version()]
    final = cache / f"test-python-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}"
    python = final / "bin" / "python"
    if python.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        if not python.exists():  # else another clone made it while this one waited
            aside = cache / f"{final.name}.part"
            shutil.rmtree(aside, ignore_errors=True)
            try:
                make(aside, final)
                aside.rename(final)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return python


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(folder, final):
    say("Preparing the tests' Python (about 650 MB, once)")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], "make a virtual environment")
    install(folder, [*BARE, "--no-deps"])
    install(folder, PACKAGES)
    packages = next(folder.glob("lib/python3.*/site-packages"))
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write("const int svgrl_has_no_gpu = 1;\n")
        source.flush()
        for name in EMPTY:
            library = packages / "torch" / "lib" / name
            compiler = os.environ.get("CC", "cc")
            run([compiler, "-shared", "-o", str(library), f"-Wl,-soname,{name}", source.name], f"compile an empty {name}")
    (packages / "lazy_binding.pth").write_text(LAZY)
    run([str(folder / "bin/python"), "-c", "import torch, torchvision, transformers, peft"], "import what was installed")
    # Scripts name the interpreter by its path, which is about to change.
    for script in (folder / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            text = script.read_bytes()
            if text.startswith(b"#!"):
                script.write_bytes(text.replace(bytes(folder), bytes(final)))


def install(folder, packages):
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run(pip + ["--version"], capture_output=True, check=False).returncode != 0:
        raise SetupError(f"{sys.executable} has no pip (`apt-get install python3-pip` or `python3 -m ensurepip`)")
    options = ["install", "--quiet", "--no-cache-dir", "--only-binary=:all:", "--retries", "2", "--no-warn-conflicts"]
    run(pip + ["--python", str(folder / "bin/python"), *options, *packages], f"install {packages[0]} and more")


def run(command, what):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError(f"cannot {what}: there is no `{command[0]}`") from None
    if done.returncode != 0:
        lines = done.stderr.strip().split("\n")
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        raise SetupError(f"cannot {what}: {reason.replace('ERROR: ', '')}")


def say(words):
    # Standard output is the answer's.
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
