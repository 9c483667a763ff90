"""Writes expected.json: what lpips, DISTS-pytorch, pytorch-fid and dreamsim say of the pictures in ../encoders.

    python make.py      (torch, torchvision, lpips, DISTS-pytorch, pytorch-fid, dreamsim, peft, Pillow needed)

The networks have fixed widths, so their weights are not stored: `formula` makes each number from
the tensor's name and the number's index, here and in the Rust test alike. Everything runs in float64,
on weights that are rounded to float32 first. DreamSim's members are 64 wide and 12 blocks deep.
"""

import json
import math
import pathlib

import lpips
import numpy as np
import torch
import torchvision
from DISTS_pytorch import DISTS
from dreamsim.feature_extraction import extractor
from dreamsim.feature_extraction.load_clip_as_dino import QuickGELU
from dreamsim.feature_extraction.vision_transformer import VisionTransformer
from dreamsim.model import PerceptualModel
from functools import partial
from peft import LoraConfig, get_peft_model
from PIL import Image
from pytorch_fid import inception as fid
from torchvision import transforms

HERE = pathlib.Path(__file__).parent
PICTURES = HERE.parent / "encoders"
WIDTH, RANK, ALPHA = 64, 4, 6.0


def formula(name, shape):
    """Uniform numbers: of variance 2/inputs for matrices and kernels, around 1 for scales and
    variances, in 0..0.2 for LPIPS' and DISTS' channel weights, small for the rest."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = torch.arange(math.prod(shape), dtype=torch.int64) * 2654435761 + seed & 0xFFFFFFFF
    for _ in range(2):
        x = (x ^ x >> 16) * 73244475 & 0xFFFFFFFF
    unit = (x ^ x >> 16).double() / 2**32
    if name.startswith("lin") or name in ("alpha", "beta"):
        value = 0.2 * unit
    elif len(shape) > 1:
        value = (2 * unit - 1) * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight") or name.endswith("running_var"):
        value = 0.75 + 0.5 * unit
    else:
        value = (2 * unit - 1) * 0.1
    return value.float().reshape(shape)


def fill(module, prefix=""):
    """Gives a module the formula's numbers under its state dict's names."""
    state = {
        name: formula(prefix + name, tuple(tensor.shape)) if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.double().eval()


def load(size=None):
    images = [Image.open(PICTURES / f"{name}.png").convert("RGBA") for name in ("wide", "tall")]
    images = [Image.alpha_composite(Image.new("RGBA", i.size, "white"), i).convert("RGB") for i in images]
    if size:
        images = [image.resize((size, size), Image.BICUBIC) for image in images]
    return images


def tensors(images):
    return [transforms.ToTensor()(image).double()[None] for image in images]


def lpips_model(net):
    model = lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, verbose=False)
    trunk = fill(getattr(torchvision.models, net + "net" if net == "alex" else "vgg16")(weights=None))
    for own in [model.net.slice1, model.net.slice2, model.net.slice3, model.net.slice4, model.net.slice5]:
        for index, layer in own.named_children():
            layer.load_state_dict(trunk.features[int(index)].state_dict())
    for index, lin in enumerate(model.lins):
        lin.model[1].weight.data = formula(f"lin{index}.model.1.weight", tuple(lin.model[1].weight.shape))
    return model.double().eval()


def distances(net):
    model = lpips_model(net)
    a, b = tensors(load(48))
    imagenet = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return {
        "unit": model(a, b).item(),
        "signed": model(a, b, normalize=True).item(),
        "imagenet": model(imagenet(a.float()).double(), imagenet(b.float()).double()).item(),
    }


def dists():
    """The picture of odd size shows how pooling ends at borders."""
    vgg16 = torchvision.models.vgg16
    torchvision.models.vgg16 = lambda **_: fill(vgg16(weights=None)).float()
    model = DISTS(load_weights=False)
    torchvision.models.vgg16 = vgg16
    for name in ("alpha", "beta"):
        getattr(model, name).data = formula(name, (1, sum(model.chns), 1, 1))
    model.double().eval()
    return {str(side): model(*tensors(load(side))).item() for side in (48, 45)}


def inception():
    fid.load_state_dict_from_url = lambda *_, **__: fill_inception.state_dict()
    model = fid.InceptionV3()
    model.double().eval()
    (picture, _) = tensors(load())
    return model(picture)[0].flatten().tolist()[::16]


def dreamsim_model():
    members = []

    def create(model_type, load_dir):
        clip = "clip" in model_type
        vit = VisionTransformer(
            patch_size=16, embed_dim=WIDTH, depth=12, num_heads=WIDTH // 64, mlp_ratio=2, qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
        if clip:
            vit.pos_drop = torch.nn.LayerNorm(WIDTH)
        fill(vit, f"{len(members)}.")
        members.append(vit)
        if not clip:
            return vit
        for module in vit.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
        if model_type == "clip_vitb16":
            for block in vit.blocks:
                block.mlp.act = QuickGELU()
        return vit, formula(f"{len(members) - 1}.proj", (WIDTH, 24)).double()

    extractor.ViTExtractor.create_model = staticmethod(create)
    model = PerceptualModel(
        model_type="dino_vitb16,clip_vitb16,open_clip_vitb16", feat_type="cls,embedding,embedding", stride="16,16,16",
        lora=True, normalize_embeds=True, device="cpu")
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.1, bias="none", target_modules=["qkv"]))
    state = model.state_dict()
    for name in state:
        if ".lora_" in name:
            saved = name.replace(".default.", ".")
            assert saved.startswith("base_model.model.extractor_list."), saved
            state[name] = formula(saved, tuple(state[name].shape)).double()
    model.load_state_dict(state)
    return model.double().eval()


def dreamsim():
    model = dreamsim_model()
    a, b = tensors(load(224))
    inner = model.base_model.model
    return {"distance": model(a, b).item(), "embed": inner.embed(a)[0].tolist()}


if __name__ == "__main__":
    with torch.no_grad():
        real = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        fill_inception = fill(real)
        out = {"alex": distances("alex"), "vgg": distances("vgg"), "dists": dists(), "inception": inception(), "dreamsim": dreamsim()}
    text = json.dumps(out, default=float)
    (HERE / "expected.json").write_text(text + "\n")
    print(text[:300], len(text), np.std(out["inception"]))
