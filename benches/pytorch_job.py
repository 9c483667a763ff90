"""Whether launch/kubernetes.yaml is a PyTorchJob to the training operator's published models, key by key.

The file is read by the classes of the operator's own SDK and written back: a key that they do not know would be lost on
the way, a value of another type refused. Pods are read by the classes of Kubernetes' client. Prints what was compared.

  python3 -m venv k8s && k8s/bin/pip install kubeflow-training pyyaml
  k8s/bin/python benches/pytorch_job.py
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import yaml
from kubeflow.training import ApiClient

FILE = Path(__file__).resolve().parent.parent / "launch" / "kubernetes.yaml"


def keys(value, path=""):
    """Every leaf of a document, by its path."""
    if isinstance(value, dict):
        return {leaf for key, inner in value.items() for leaf in keys(inner, f"{path}/{key}")}
    if isinstance(value, list):
        return {leaf for at, inner in enumerate(value) for leaf in keys(inner, f"{path}/{at}")}
    return {(path, json.dumps(value))}


def main():
    document = yaml.safe_load(FILE.read_text())
    client = ApiClient()
    read = client.deserialize(SimpleNamespace(data=json.dumps(document)), "KubeflowOrgV1PyTorchJob")
    lost = keys(document) ^ keys(client.sanitize_for_serialization(read))
    for path, value in sorted(lost):
        print(f"differs: {path}: {value}")
    versions = {name: importlib.metadata.version(name) for name in ("kubeflow-training", "kubernetes")}
    print(f"{FILE.name}: {len(keys(document))} values, {len(lost)} lost or changed, by {versions}")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
