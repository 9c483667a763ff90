"""What the comparisons of real.py stand on: a server that is started and ended, a run of svgrl, and what was found."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STARTING_S = 600


class Failed(Exception):
    """Something that a comparison needs did not come about."""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ask(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Server:
    """A server of `engine` with the policy in `model` and more folders in PYTHONPATH; it is stopped at the end of a `with`."""

    def __init__(self, engine, python, model, log, flags=(), path=()):
        self.engine, self.log = engine, log
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        own = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCHDYNAMO_DISABLE": "1"}
        where = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
        if engine == "vllm":
            own |= {
                "VLLM_SERVER_DEV_MODE": "1",
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            }
            path = [ROOT / "launch" / "clients", *path]
            command = ["-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "policy"]
            command += ["--max-model-len", "1024", "--max-num-seqs", "64", "--enforce-eager", "--enable-scale-out"]
            command += ["--worker-extension-cls", "svgrl_vllm.Worker"]
            command += ["--weight-transfer-config", '{"backend": "safetensors"}', "--shutdown-timeout", "10"]
        else:
            own |= {"SGLANG_USE_CPU_ENGINE": "1"}
            command = ["-m", "sglang.launch_server", "--model-path", model, "--served-model-name", "policy", "--device", "cpu"]
            command += ["--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--disable-overlap-schedule"]
            command += ["--mem-fraction-static", "0.1", "--max-total-tokens", "8192", "--context-length", "512"]
            command += ["--disable-cuda-graph", "--skip-server-warmup"]
        own |= {"PYTHONPATH": ":".join(map(str, path))} if path else {}
        with open(log, "w") as out:
            self.process = subprocess.Popen(
                [python, *command, *where, *flags], env={**os.environ, **own}, stdout=out, stderr=out, start_new_session=True
            )

    def __enter__(self):
        begun = time.time()
        while time.time() - begun < STARTING_S:
            if self.process.poll() is not None:
                raise Failed(f"{self.engine} ended at its start with {self.process.returncode}: {self.log}")
            try:
                ask(self.address, "/health")
                print(f"{self.engine}: ready after {time.time() - begun:.0f} s", flush=True)
                return self
            except OSError:
                time.sleep(1)
        self.__exit__()
        raise Failed(f"{self.engine} was not ready within {STARTING_S} s: {self.log}")

    def __exit__(self, *_):
        # It ends its workers itself, and frees what they share; who is left is of its session.
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            print(f"{self.engine} did not end within 60 s: killed", flush=True)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Check:
    """What was found, one line each; the last says whether all of it is right."""

    def __init__(self):
        self.failed, self.absent = 0, 0

    def __call__(self, what, right, value):
        self.failed += not right
        print(f"{'ok    ' if right else 'WRONG '} {what}: {value}", flush=True)

    def cannot(self, what, words):
        """What a server cannot do on a CPU, in its own words."""
        self.absent += 1
        print(f"n/a    {what}: {words}", flush=True)


def told(program, *arguments):
    """A command of svgrl, however it ends."""
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=own)


def svgrl(program, *arguments):
    done = told(program, *arguments)
    if done.returncode:
        said = f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        raise Failed(f"svgrl {' '.join(map(str, arguments))}\nended with {done.returncode}:\n{said}")
    return done
