"""Every published file this project can use: what for, where it comes from, under which licence.

Sizes and checksums are what a download is checked against where the hub sends none; where it sends others, the hub's
count (see `download`). Those of LatentSync are of 1.5. `None` means "not known", never "anything goes": size and
checksum of what was fetched are kept in the folder's `latentsync.json`, for the next time.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

#: Published versions of the U-Net and the side of the square crop, in pixels, that each was trained for.
RESOLUTIONS = {"1.5": 256, "1.6": 512}

#: Groups that `run` needs.
RUN_GROUPS = ("unet", "whisper", "vae", "yunet")

#: Of `i3d_torchscript.pt`, a program: no other is run.
I3D_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"

#: Of YuNet, as of the few files that OpenCV is given to read (see `face/detect/yunet.py`).
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

HUB = "https://huggingface.co"
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Weight:
    """One file to fetch.

    `target` is relative to the checkpoints folder. The file comes from `url`, or is `filename` in the hub
    repository `repo`. `size` is exact, in bytes; `about` is the rounded size its documents give, for the
    disk-space check and against replies without an end. `members` are the files taken out of a zip archive into the
    folder `target`.
    A `program` (TorchScript) runs when it is loaded: only the one whose checksum stands here is ever taken.
    """

    group: str
    target: str
    purpose: str
    licence: str
    repo: str | None = None
    filename: str | None = None
    url: str | None = None
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    commercial: bool = True
    version: str | None = None
    members: tuple[str, ...] = ()
    program: bool = False

    def address(self, endpoint: str = HUB) -> str:
        """Where the file is fetched from; `endpoint` replaces the hub's own address (a mirror)."""
        return self.url or f"{endpoint.rstrip('/')}/{self.repo}/resolve/main/{self.filename}"

    @property
    def bytes_hint(self) -> int:
        """Exact size, else the rounded one, else 0; in bytes."""
        return self.size or self.about or 0

    def locate(self, folder: str | Path) -> Path | None:
        """This file in `folder`: at its target or, for tensors, as `.safetensors` of the same name."""
        target = Path(folder) / self.target
        if self.members:
            return target if all((target / name).is_file() for name in self.members) else None
        tensors = target.suffix in (".pt", ".pth", ".model", ".pkl")
        twins = [target, target.with_suffix(".safetensors")] if tensors else [target]
        return next((path for path in twins if path.is_file()), None)


OPENRAIL, APACHE = "openrail++ (code: Apache-2.0)", "Apache-2.0"
AUXILIARY, VAE = "ByteDance/LatentSync-1.5:auxiliary/", "stabilityai/sd-vae-ft-mse:"


def _file(
    group: str, target: str, source: str, size: float, sha256: str | None, purpose: str, licence: str, **facts
) -> Weight:
    """A row. `source` is a folder to which the name of `target` is added: in the hub "owner/name:" or
    "owner/name:folder/", elsewhere a URL that ends in "/"; or the whole URL of an archive. `size` in bytes is exact if
    it is a whole number, and rounded if it is written as 5.1e9."""
    name = Path(target).name
    if source.startswith("https:"):
        where = {"url": source + name if source.endswith("/") else source}
    else:
        repo, _, folder = source.partition(":")
        where = {"repo": repo, "filename": folder + name}
    where |= {"size": size} if isinstance(size, int) else {"about": int(size)}
    return Weight(group, target, purpose, licence, sha256=sha256, **where, **facts)


# fmt: off
WEIGHTS: tuple[Weight, ...] = (
    # group, place in the checkpoints folder, source, bytes, SHA-256, purpose, licence
    _file("unet", "latentsync_unet.pt", "ByteDance/LatentSync-1.6:", 5.1e9, None,
          "lip-sync U-Net 1.6 for 512 x 512 crops", OPENRAIL, version="1.6"),
    _file("syncnet", "stable_syncnet.pt", "ByteDance/LatentSync-1.6:", 1.6e9, None,
          "StableSyncNet: U-Net training, sync evaluation", OPENRAIL, version="1.6"),
    _file("unet", "latentsync_unet.pt", "ByteDance/LatentSync-1.5:", 5_072_348_184,
          "6440b49a7ccceff56cdc001f5f17605216337f5bbd66fa360139768926e23f51", "lip-sync U-Net 1.5 for 256 x 256 crops",
          OPENRAIL, version="1.5"),
    _file("syncnet", "stable_syncnet.pt", "ByteDance/LatentSync-1.5:", 1_605_324_224,
          "dccc464554b85ed939ae5cf63000e5803d4b21d8c7dae2260544a10aeb1ac483",
          "StableSyncNet: U-Net training, sync evaluation", OPENRAIL, version="1.5"),
    _file("sd15", "stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors",
          "stable-diffusion-v1-5/stable-diffusion-v1-5:unet/", 3.44e9, None,
          "U-Net of Stable Diffusion 1.5: where stage 1 of the U-Net's training starts", "CreativeML OpenRAIL-M"),
    _file("whisper", "whisper/tiny.pt", "ByteDance/LatentSync-1.6:whisper/", 7.5e7,
          "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
          "Whisper tiny, audio encoder for cross-attention width 384", "MIT"),
    _file("whisper-small", "whisper/small.pt",
          "https://openaipublic.azureedge.net/main/whisper/models/9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794/",
          4.84e8, "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
          "Whisper small, audio encoder for cross-attention width 768", "MIT"),
    _file("vae", "vae/config.json", VAE, 547.0, None, "VAE sd-vae-ft-mse", "MIT"),
    _file("vae", "vae/diffusion_pytorch_model.safetensors", VAE, 3.35e8, None, "VAE sd-vae-ft-mse", "MIT"),
    _file("yunet", "auxiliary/face_detection_yunet_2023mar.onnx", "opencv/face_detection_yunet:", 232_589, YUNET_SHA256,
          "YuNet face detection", "MIT"),
    _file("insightface", "insightface/models/buffalo_l",
          f"{GITHUB}/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip", 2.89e8, None,
          "InsightFace detection, 106 landmarks, embeddings (the insightface package also fetches it by itself)",
          "InsightFace, non-commercial", commercial=False, members=("det_10g.onnx", "2d106det.onnx", "w600k_r50.onnx")),
    _file("auxiliary", "auxiliary/syncnet_v2.model", AUXILIARY, 54_573_114,
          "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
          "SyncNet v2: Sync-C, Sync-D and audio offset", "research", commercial=False),
    _file("auxiliary", "auxiliary/koniq_pretrained.pkl", AUXILIARY, 109_768_650,
          "ff9277bcc68ecc10e77d88b6d0a32825ec3c85562095542734ec6212eaaf6d81",
          "hyperIQA: picture quality of training clips", "research", commercial=False),
    _file("auxiliary", "auxiliary/i3d_torchscript.pt", AUXILIARY, 51_235_320, I3D_SHA256, "I3D: FVD", "research",
          commercial=False, program=True),
    _file("auxiliary", "auxiliary/vit_g_hybrid_pt_1200e_ssv2_ft.pth", AUXILIARY, 2_023_804_201,
          "5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70", "VideoMAE v2: TREPA loss", "research",
          commercial=False),
    _file("auxiliary", "auxiliary/vgg16-397923af.pth", AUXILIARY, 5.53e8,
          "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", "VGG16: LPIPS loss", "research",
          commercial=False),
    _file("inception", "auxiliary/weights-inception-2015-12-05-6726825d.pth",
          f"{GITHUB}/toshas/torch-fidelity/releases/download/v0.2.0/", 9.6e7, None, "Inception v3: FID", APACHE),
    _file("gfpgan", "GFPGAN/GFPGANv1.4.pth", f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.0/", 348_632_874,
          "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad", "GFPGAN 1.4 face restoration", APACHE),
    _file("gfpgan", "GFPGAN/GFPGANv1.3.pth", f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.0/", 348_632_874,
          "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70", "GFPGAN 1.3 face restoration", APACHE),
    _file("codeformer", "CodeFormer/codeformer.pth", f"{GITHUB}/sczhou/CodeFormer/releases/download/v0.1.0/",
          376_637_898, "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
          "CodeFormer face restoration", "S-Lab, non-commercial", commercial=False),
    _file("restoreformer", "RestoreFormer/RestoreFormer.pth", f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.4/",
          290_785_322, "07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
          "RestoreFormer face restoration", APACHE),
    _file("parsing", "auxiliary/parsing_parsenet.pth", f"{GITHUB}/xinntao/facexlib/releases/download/v0.2.2/",
          85_331_193, "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
          "ParseNet: what is in front of a face", "MIT"),
    _file("facexlib", "auxiliary/detection_Resnet50_Final.pth", f"{GITHUB}/xinntao/facexlib/releases/download/v0.1.0/",
          109_497_761, "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
          "face detection for restoration", "MIT"),
)
# fmt: on

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(weight.group for weight in WEIGHTS))


def select(version: str = "1.6", only: list[str] | tuple[str, ...] | None = None) -> list[Weight]:
    """The rows of `version` in the groups `only`, or in those that `run` needs."""
    if version not in RESOLUTIONS:
        raise InputError(f"version is {version!r}: choose one of {', '.join(RESOLUTIONS)}")
    wanted = RUN_GROUPS if only is None else tuple(only)
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise InputError(f"no group of files is called {', '.join(unknown)!r}: choose from {', '.join(GROUPS)}")
    return [w for w in WEIGHTS if w.group in wanted and w.version in (None, version)]
