#!/usr/bin/env python3
"""Prepares libtorch 2.11.0 and tells cargo where it is.

    python3 launch/setup_libtorch.py [--cpu | --cuda]

Takes PyTorch's wheels from the Python package index, unpacks what a C++ program
needs into the user's cache folder (shared by all clones, made aside and renamed
when whole), and writes `.cargo/config.toml`. CUDA is chosen when an NVIDIA GPU
answers, the small CPU set otherwise. A LIBTORCH or LIBTORCH_USE_PYTORCH set by
the user is taken as it is and nothing is downloaded. Needs Python 3.8 or later
with pip, on Linux x86-64; the wheels' own Python version does not matter.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

VERSION = "2.11.0"
TORCH = [f"torch=={VERSION}"]
# What libtorch_cpu.so of a CUDA wheel needs even without a GPU.
CPU_RUNTIME = ["nvidia-cuda-cupti==13.0.85", "nvidia-cuda-runtime==13.0.96"]
# Headers that PyTorch's own requirements leave out, for NCCL and CUDA graphs.
CUDA_HEADERS = ["nvidia-cuda-crt==13.0.88", "nvidia-cuda-cccl==13.0.85"]
CPU_LIBRARIES = {
    "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13",
}
# The wheels need glibc 2.28 at most.
PLATFORMS = [f"manylinux_2_{minor}" for minor in range(28, 16, -1)] + ["manylinux2014"]
HEADER = "# Written by `make setup`; run it again rather than editing this file.\n"
# What reading a wheel that was cut short or garbled raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError)
ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """One sentence for the user."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cpu", action="store_true", help="the CPU set, whatever the machine has")
    kind.add_argument("--cuda", action="store_true", help="the CUDA set, whatever the machine has")
    options = parser.parse_args()
    try:
        libtorch, why = users_own()
        if libtorch is None:
            cuda = options.cuda or (not options.cpu and gpu_answers())
            libtorch, why = cached(cuda)
        written = write_cargo_config(libtorch)
        print(f"libtorch: {libtorch} ({why})" + ("; wrote .cargo/config.toml" if written else ""))
        for name in ("CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"):
            if os.environ.get(name):
                print(f"{name} is set, so cargo passes over the flags of .cargo/config.toml: unset it, or "
                      f"add `-C link-arg=-Wl,-rpath,{library_folder(libtorch)}`")
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except OSError as error:
        sys.exit(f"setup: {error.strerror or error}: {error.filename or 'no file named'}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; nothing half-made is left, run it again")


# --- which libtorch ---


def users_own():
    """A libtorch that the user's environment names, or (None, None)."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        # The interpreter that torch-sys will ask.
        python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"
        code = "import torch, os; print(os.path.dirname(torch.__file__)); print(torch.__version__)"
        try:
            answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise SetupError(f"LIBTORCH_USE_PYTORCH is set but there is no `{python}` to ask") from None
        if answer.returncode != 0:
            raise SetupError(f"LIBTORCH_USE_PYTORCH is set but `{python}` cannot import torch")
        folder, version = answer.stdout.split("\n")[-3:-1]
        if version.split("+")[0] != VERSION:
            raise SetupError(f"LIBTORCH_USE_PYTORCH names PyTorch {version}, but {VERSION} is needed")
        return checked(Path(folder), "LIBTORCH_USE_PYTORCH"), "PyTorch of your LIBTORCH_USE_PYTORCH"
    if os.environ.get("LIBTORCH"):
        return checked(Path(os.environ["LIBTORCH"]).absolute(), "LIBTORCH"), "your LIBTORCH"
    return None, None


def checked(folder, variable):
    library = Path(os.environ.get("LIBTORCH_LIB", folder)) / "lib" / "libtorch_cpu.so"
    if not library.exists():
        raise SetupError(f"{variable} leads to {library}, which does not exist; correct or unset {variable}")
    return folder


def gpu_answers():
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and b"GPU" in answer.stdout


def cached(cuda):
    """The cache's copy, made if it is not there."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(home).absolute() / "svgrl"
    final = cache / f"libtorch-{VERSION}-{'cu130' if cuda else 'cpu'}"
    marker = final / "complete.json"
    inside = final / "torch" if cuda else final
    kind = "CUDA" if cuda else "CPU"
    if marker.exists():
        return inside, f"{kind}, from the cache"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError("only Linux x86-64 has ready-made libraries; set LIBTORCH to a libtorch 2.11.0")
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        if marker.exists():  # another clone made it while this one waited
            return inside, f"{kind}, from the cache"
        aside = cache / f"{final.name}.part"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            wheels = (make_cuda if cuda else make_cpu)(aside)
            (aside / "complete.json").write_text(json.dumps(wheels, indent=1) + "\n")
            shutil.rmtree(final, ignore_errors=True)
            aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return inside, f"{kind}, downloaded"


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- making the folder ---


def make_cpu(folder):
    print(f"Downloading libtorch {VERSION} for the CPU (about 550 MB, once)", flush=True)
    wheels = download(TORCH + CPU_RUNTIME, folder / "wheels")

    def place(name):
        if name.startswith("torch/include/") and not name.endswith("/"):
            return Path(name[len("torch/"):])
        base = name.rsplit("/", 1)[-1]
        return Path("lib") / base if base in CPU_LIBRARIES else licence(name)

    for wheel in wheels:
        unpack(wheel, folder, place)
    missing = sorted(name for name in CPU_LIBRARIES if not (folder / "lib" / name).exists())
    if missing:
        raise SetupError(f"the wheels of torch {VERSION} lack {', '.join(missing)}")
    (folder / "lib/libtorch.so").symlink_to("libtorch_cpu.so")
    (folder / "lib/libgomp.so").symlink_to("libgomp.so.1")
    shutil.rmtree(folder / "wheels")
    return [wheel.name for wheel in wheels]


def make_cuda(folder):
    print(f"Downloading libtorch {VERSION} for CUDA (about 3 GB, 5 GB unpacked, once)", flush=True)
    wheels = download(TORCH, folder / "wheels")
    wheels += download(cuda_requirements(wheels[0]) + CUDA_HEADERS, folder / "wheels-cuda", follow=True)
    # The wheels' libraries find each other by paths relative to these folders.
    def place(name):
        wanted = name.startswith(("torch/include/", "torch/lib/", "nvidia/")) and not name.endswith("/")
        return Path(name) if wanted else licence(name)

    for wheel in wheels:
        unpack(wheel, folder, place)
        wheel.unlink()
    (folder / "torch/lib/libgomp.so").symlink_to("libgomp.so.1")
    shutil.rmtree(folder / "wheels")
    shutil.rmtree(folder / "wheels-cuda")
    return [wheel.name for wheel in wheels]


def licence(name):
    """Where a wheel's licence texts go, which whoever passes the libraries on has to pass on too (launch/package.py)."""
    wheel, inside, rest = name.partition(".dist-info/")
    is_text = rest.rsplit("/", 1)[-1].upper().startswith(("LICENSE", "LICENCE", "NOTICE"))
    return Path("licenses") / wheel / rest if inside and is_text else None


def cuda_requirements(torch_wheel):
    """The CUDA packages that the torch wheel itself asks for."""
    with opened(torch_wheel) as archive:
        name = next((n for n in archive.namelist() if n.endswith(".dist-info/METADATA")), None)
        if name is None:
            raise SetupError(f"the download of {torch_wheel.name} is broken (it has no METADATA); run this again")
        lines = archive.read(name).decode().split("\n")
    wanted = [line.split(":", 1)[1].split(";")[0].strip() for line in lines if line.startswith("Requires-Dist:")]
    return [item for item in wanted if item.startswith(("nvidia-", "cuda-toolkit"))]


def download(packages, folder, follow=False):
    """Wheels of these packages, for one fixed platform and Python."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run(pip + ["--version"], capture_output=True, check=False).returncode != 0:
        raise SetupError(
            f"{sys.executable} has no pip; install it (`apt-get install python3-pip` or "
            "`python3 -m ensurepip`) and run this again"
        )
    command = pip + ["download", "--only-binary=:all:", "--no-cache-dir", "--retries", "2", "--dest", str(folder)]
    command += [] if follow else ["--no-deps"]
    command += ["--python-version", "3.12", "--implementation", "cp"]
    for name in PLATFORMS:
        command += ["--platform", f"{name}_x86_64"]
    run = subprocess.run(command + packages, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        errors = [line for line in run.stderr.split("\n") if line.startswith("ERROR")] or run.stderr.split("\n")
        reason = errors[0].replace("ERROR: ", "").strip() or f"exit status {run.returncode}"
        raise SetupError(
            f"could not download {packages[0]} and what it needs from the Python package index; "
            f"check the network and the free space, then run this again (pip says: {reason})"
        )
    return sorted(folder.glob("*.whl"))


def opened(wheel):
    try:
        return zipfile.ZipFile(wheel)
    except BROKEN as error:
        raise SetupError(f"the download of {wheel.name} is broken ({error}); run this again") from None


def unpack(wheel, folder, place):
    """Writes the members for which `place` gives a path, at that path."""
    with opened(wheel) as archive:
        for member in archive.infolist():
            path = place(member.filename)
            if path is None:
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
            except BROKEN as error:
                raise SetupError(f"the download of {wheel.name} is broken ({error}); run this again") from None


# --- telling cargo ---


def library_folder(libtorch):
    return Path(os.environ.get("LIBTORCH_LIB", libtorch)).absolute() / "lib"


def write_cargo_config(libtorch):
    """Writes `.cargo/config.toml` unless it says the same already: a newer file
    would not matter to cargo, but another rpath makes it build everything anew."""
    lib = library_folder(libtorch)
    # With the CUDA headers in place the shim is compiled with NCCL (see torch-ext/build.rs).
    nvidia = libtorch.parent / "nvidia"
    headers = ["nccl/include/nccl.h", "cu13/include/cuda_runtime.h", "cu13/include/crt/host_config.h",
               "cu13/include/cccl/cuda/std/version"]
    missing = [name for name in headers if not (nvidia / name).exists()]
    has_cuda = (lib / "libtorch_cuda.so").exists()
    cuda = has_cuda and not missing
    if has_cuda and missing:
        print(f"No NCCL: {nvidia / missing[0]} does not exist "
              f"(`pip install {' '.join(CUDA_HEADERS)}` beside this torch, then run this again)")
    text = HEADER + "[env]\n"
    text += f"LIBTORCH = {json.dumps(str(libtorch))}\n"
    for name in ("LIBTORCH_LIB", "LIBTORCH_INCLUDE"):
        text += f"{name} = {json.dumps(os.environ[name])}\n" if os.environ.get(name) else ""
    text += 'SVGRL_CUDA = "1"\n' if cuda else ""
    # Flags of a cfg are joined with those that a user's own configuration has for the target; flags
    # of [build] would give way to them.
    text += f"[target.'cfg(unix)']\nrustflags = [\"-C\", {json.dumps(f'link-arg=-Wl,-rpath,{lib}')}]\n"
    path = ROOT / ".cargo/config.toml"
    old = path.read_text() if path.exists() else None
    if old == text:
        return False
    path.parent.mkdir(exist_ok=True)
    if old is not None and not old.startswith(HEADER):
        path.replace(path.with_name("config.toml.before-setup"))
    path.write_text(text)
    return True


if __name__ == "__main__":
    main()
