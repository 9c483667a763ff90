"""Stands in for pip where `make setup` is tested: notes how it was called, and
makes wheels of a few bytes, or ends as FAKE_PIP says."""

import os
import sys
import zipfile
from pathlib import Path

TORCH = [
    "torch/include/ATen/ATen.h", "torch/lib/libtorch_cpu.so", "torch/lib/libtorch_cuda.so",
    "torch/lib/libc10.so", "torch/lib/libgomp.so.1", "torch/__init__.py",
]
CUDA = [
    "nvidia/nccl/include/nccl.h", "nvidia/cu13/include/cuda_runtime.h",
    "nvidia/cu13/include/crt/host_config.h", "nvidia/cu13/include/cccl/cuda/std/version",
]
WHEELS = {
    "torch": TORCH,
    "nvidia-cuda-cupti": ["nvidia/cu13/lib/libcupti.so.13"],
    "nvidia-cuda-runtime": ["nvidia/cu13/lib/libcudart.so.13"],
    "cuda-toolkit[cublas]": CUDA,
}
METADATA = "Name: torch\nRequires-Dist: sympy\nRequires-Dist: cuda-toolkit[cublas]==13.0.2; platform_system == \"Linux\"\n"


def make(folder, package):
    name = package.split("==")[0]
    path = folder / f"{name.split('[')[0].replace('-', '_')}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member in WHEELS.get(name, []):
            wheel.writestr(member, member * 100)
        if name == "torch":
            wheel.writestr("torch-2.11.0.dist-info/METADATA", METADATA)
    return path


def main():
    mood = os.environ.get("FAKE_PIP", "")
    if mood == "missing":
        sys.exit("No module named pip")
    if sys.argv[1:] == ["--version"]:
        return
    with open(os.environ["FAKE_PIP_LOG"], "a") as log:
        log.write(" ".join(sys.argv[1:]) + "\n")
    if mood == "offline":
        print("WARNING: Retrying\nERROR: No matching distribution found for torch", file=sys.stderr)
        sys.exit(1)
    folder = Path(sys.argv[sys.argv.index("--dest") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    for package in (word for word in sys.argv if "==" in word):
        path = make(folder, package)
        whole = path.read_bytes()
        if mood == "cut":
            path.write_bytes(whole[: len(whole) // 2])
        elif mood == "garbled":  # the list of members is whole, what they hold is not
            start = 30 + int.from_bytes(whole[26:28], "little")
            path.write_bytes(whole[:start] + b"\xff" * 8 + whole[start + 8 :])


main()
