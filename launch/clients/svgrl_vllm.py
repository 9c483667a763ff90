"""Weights from a run of svgrl into vLLM: a worker class and a transfer of safetensors files, without NCCL.

    PYTHONPATH=launch/clients VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model FOLDER \\
        --enable-scale-out --worker-extension-cls svgrl_vllm.Worker \\
        --weight-transfer-config '{"backend": "safetensors"}'

The run calls /pause, /start_weight_update, /update_weights with one file after another, /finish_weight_update and /resume.
Written for vLLM 0.32; what it uses of it is imported below.
"""

import os
from dataclasses import dataclass, field

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

BACKEND = "safetensors"


def stored(paths):
    """Name and tensor of everything in the files, tensor by tensor."""
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                # A copy: the file is removed once the next version is there.
                yield name, file.get_tensor(name).clone()


def pack_tied_heads(model):
    """On the CPU a linear layer computes with a packed copy of its weight. A head that is tied to the embedding is not
    among the tensors that are loaded, so that its copy has to be made anew."""
    for module in model.modules():
        head = getattr(module, "lm_head", None)
        if head is not None and hasattr(head, "cpu_linear") and hasattr(head, "quant_method"):
            head.quant_method.process_weights_after_loading(head)


class Worker:
    """For `--worker-extension-cls`: importing this file registers the transfer in every worker."""


@dataclass
class FilesInit(WeightTransferInitInfo):
    """Nothing is agreed on beforehand."""


@dataclass
class FilesUpdate(WeightTransferUpdateInfo):
    """Files whose tensors are to be loaded, absolute paths."""

    paths: list[str] = field(default_factory=list)


class FilesTransfer(WeightTransferEngine[FilesInit, FilesUpdate]):
    """Loads tensors of files, layer by layer."""

    init_info_cls = FilesInit
    update_info_cls = FilesUpdate

    def init_transfer_engine(self, init_info):
        pass

    def start_weight_update(self):
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info):
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, info):
        missing = [path for path in info.paths if not os.path.isfile(path)]
        if missing:
            raise FileNotFoundError(
                f"{missing}: the folder of rollout.servers.weights must be seen here under the same path"
            )
        with torch.inference_mode():
            self.model.load_weights(stored(info.paths))

    def finish_weight_update(self):
        with torch.inference_mode():
            finalize_layerwise_reload(self.model, self.model_config)
            pack_tied_heads(self.model)

    def shutdown(self):
        pass


WeightTransferEngineFactory.register_engine(BACKEND, FilesTransfer)
