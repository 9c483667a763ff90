#!/usr/bin/env python3
"""Makes a folder that runs on a machine without Rust, Python or libtorch.

    python3 launch/package.py [--program target/release/svgrl] [--out FOLDER]

The program, its render worker and the libtorch that it was linked with (the CPU or
the CUDA libraries) are put into one folder, which may lie anywhere: the programs
look for libraries in `lib` beside themselves. With them come the configs, the
documents, the clients, the files for Slurm and Kubernetes, completions and manual
pages. What is asked of the machine is Linux x86-64 with the C and C++ libraries of
the one that built it, or newer; for CUDA its driver.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ["README.md", "CHANGELOG.md", "LICENSE", "configs", "docs", "launch/clients", "launch/slurm.sbatch",
          "launch/kubernetes.yaml"]
PROGRAMS = ["svgrl", "svgrl-render-worker"]
SHELLS = {"bash": "svgrl", "zsh": "_svgrl", "fish": "svgrl.fish"}
# Of the ELF format: a segment that is loaded, the dynamic one, and three of its entries.
LOAD, DYNAMIC = 1, 2
STRINGS, RPATH, RUNPATH = 5, 15, 29


class PackageError(Exception):
    """One sentence for the user."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/svgrl", help="the svgrl to pack")
    parser.add_argument("--out", type=Path, default=ROOT / "target/package/svgrl", help="the folder, written anew")
    options = parser.parse_args()
    try:
        make(options.program.absolute(), options.out.absolute())
    except PackageError as error:
        sys.exit(f"package: {error}")
    except OSError as error:
        sys.exit(f"package: {error.strerror or error}: {error.filename or 'no file named'}")


def make(program, out):
    if not program.exists():
        raise PackageError(f"{program} is not there; `make package` builds it, or name another one with --program")
    if out.exists() and not (out / "svgrl").exists():
        raise PackageError(f"{out} is there and no package; name another folder with --out, or remove it")
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        libraries = copy_libraries(libtorch_of(program), aside)
        for name in PROGRAMS:
            shutil.copy2(program.with_name(name), aside / name)
            set_run_path(aside / name, f"$ORIGIN/{libraries}")
        for name in BESIDE:
            copy(ROOT / name, aside / name)
        write_shell_files(aside)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    size = sum(file.lstat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 2**30:.1f} GiB; copy it anywhere and run its `svgrl`")


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def libtorch_of(program):
    """The folder of the libtorch that the program was linked with."""
    folders = [Path(folder) for folder in run_path(program)[2].split(":")]
    for folder in folders:
        if (folder / "libtorch_cpu.so").exists():
            return folder
    raise PackageError(f"{program} names no folder with libtorch_cpu.so ({', '.join(map(str, folders))}); `make setup`, "
                       "then build it again")


def copy_libraries(lib, out):
    """Copies what the program needs below `out/lib`; the folder of libtorch's own, relative to `out`."""
    nvidia = lib.parent.parent / "nvidia"
    licences = (lib.parent.parent if nvidia.is_dir() else lib.parent) / "licenses"
    if licences.is_dir():
        copy(licences, out / "lib/licenses")
    else:
        print(f"package: {lib} has no licence texts beside it; add those of PyTorch before you pass the folder on "
              "(`make setup` keeps them when it downloads anew)", file=sys.stderr)
    if not nvidia.is_dir():
        copy_shared(lib, out / "lib")
        return "lib"
    # The CUDA libraries find each other by paths between these folders.
    copy_shared(lib, out / "lib/torch/lib")
    for folder in nvidia.glob("**/lib"):
        copy_shared(folder, out / "lib/nvidia" / folder.relative_to(nvidia))
    return "lib/torch/lib"


def copy_shared(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if ".so" in file.name and not file.is_dir():
            # A link beside its file stays one; one that leads elsewhere is followed.
            stays = not file.is_symlink() or "/" not in os.readlink(file)
            shutil.copy2(file, target / file.name, follow_symlinks=not stays)


def write_shell_files(out):
    def svgrl(*words):
        done = subprocess.run([str(out / "svgrl"), *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PackageError(f"the packed svgrl does not start: {done.stderr.strip()}")
        return done.stdout

    svgrl("man", str(out / "man/man1"))
    (out / "completions").mkdir()
    for shell, name in SHELLS.items():
        (out / "completions" / name).write_text(svgrl("completions", shell))


def run_path(program):
    """Where the file holds the folders of its libraries, how long they may be there, and what they are."""
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise PackageError(f"{program} is no 64-bit ELF program")
    first, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = []
    for at in range(first, first + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, at)
        segments.append((kind, offset, address, length))
    table = next(segment for segment in segments if segment[0] == DYNAMIC)
    entries = dict(struct.iter_unpack("<QQ", data[table[1]:table[1] + table[3] // 16 * 16]))
    found = entries.get(RUNPATH, entries.get(RPATH))
    if found is None:
        return 0, 0, ""
    place = entries[STRINGS] + found
    offset = next(place - address + offset for kind, offset, address, length in segments
                  if kind == LOAD and address <= place < address + length)
    end = data.index(b"\0", offset)
    return offset, end - offset, data[offset:end].decode()


def set_run_path(program, wanted):
    """Writes `wanted` over the folders that the linker put there."""
    offset, room, now = run_path(program)
    if not now:
        return  # a program without libraries of its own
    if len(wanted) > room:
        raise PackageError(f"{program.name} was linked with libraries in `{now}`, which is shorter than `{wanted}` and "
                           "leaves no room for it; move your libtorch to a longer path and build again")
    with open(program, "r+b") as file:
        file.seek(offset)
        file.write(wanted.encode().ljust(room, b"\0"))


if __name__ == "__main__":
    main()
