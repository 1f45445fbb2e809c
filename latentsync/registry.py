"""Every published file this project can use: what for, where it comes from, under which licence.

Sizes and checksums stand here only where their publisher states them; a checksum that the hub sends along
with a file is checked too (see `download`). `None` means "not stated", never "anything goes".
"""

from dataclasses import dataclass
from pathlib import Path

#: Published versions of the U-Net and the side of the square crop, in pixels, that each was trained for.
RESOLUTIONS = {"1.5": 256, "1.6": 512}

#: Groups that `run` needs.
RUN_GROUPS = ("unet", "whisper", "vae", "yunet")

HUB = "https://huggingface.co"
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Weight:
    """One file to fetch.

    `target` is relative to the checkpoints folder. The file comes from `url`, or is `filename` in the hub
    repository `repo`. `size` is exact, in bytes; `about` is the rounded size its documents give, for the
    disk-space check. `members` are the files taken out of a zip archive into the folder `target`.
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


def _latentsync(version: str) -> list[Weight]:
    repo, side = f"ByteDance/LatentSync-{version}", RESOLUTIONS[version]
    licence = "openrail++ (code: Apache-2.0)"
    return [
        Weight(
            "unet",
            "latentsync_unet.pt",
            f"lip-sync U-Net {version} for {side} x {side} crops",
            licence,
            repo=repo,
            filename="latentsync_unet.pt",
            about=5_000_000_000,
            version=version,
        ),
        Weight(
            "syncnet",
            "stable_syncnet.pt",
            "StableSyncNet: U-Net training, sync evaluation",
            licence,
            repo=repo,
            filename="stable_syncnet.pt",
            about=1_600_000_000,
            version=version,
        ),
    ]


def _whisper(group: str, name: str, sha256: str, **source) -> Weight:
    width = {"tiny": 384, "small": 768}[name]
    purpose = f"Whisper {name}, audio encoder for cross-attention width {width}"
    return Weight(group, f"whisper/{name}.pt", purpose, "MIT", sha256=sha256, **source)


def _vae(filename: str, **facts) -> Weight:
    repo = "stabilityai/sd-vae-ft-mse"
    return Weight("vae", f"vae/{filename}", "VAE sd-vae-ft-mse", "MIT", repo=repo, filename=filename, **facts)


def _auxiliary(filename: str, purpose: str) -> Weight:
    return Weight(
        "auxiliary",
        f"auxiliary/{filename}",
        purpose,
        "research",
        repo="ByteDance/LatentSync-1.5",
        filename=f"auxiliary/{filename}",
        commercial=False,
    )


def _gfpgan(version: str, sha256: str) -> Weight:
    return Weight(
        "gfpgan",
        f"GFPGAN/GFPGANv{version}.pth",
        f"GFPGAN {version} face restoration",
        "Apache-2.0",
        url=f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv{version}.pth",
        size=348_632_874,
        sha256=sha256,
    )


def _facexlib(release: str, filename: str, purpose: str, size: int, sha256: str) -> Weight:
    url = f"{GITHUB}/xinntao/facexlib/releases/download/{release}/{filename}"
    return Weight("facexlib", f"auxiliary/{filename}", purpose, "MIT", url=url, size=size, sha256=sha256)


WEIGHTS: tuple[Weight, ...] = (
    *_latentsync("1.6"),
    *_latentsync("1.5"),
    _whisper(
        "whisper",
        "tiny",
        "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
        repo="ByteDance/LatentSync-1.6",
        filename="whisper/tiny.pt",
        about=75_000_000,
    ),
    _whisper(
        "whisper-small",
        "small",
        "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
        url="https://openaipublic.azureedge.net/main/whisper/models/"
        "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794/small.pt",
    ),
    _vae("config.json"),
    _vae("diffusion_pytorch_model.safetensors", about=335_000_000),
    Weight(
        "yunet",
        "auxiliary/face_detection_yunet_2023mar.onnx",
        "YuNet face detection",
        "MIT",
        repo="opencv/face_detection_yunet",
        filename="face_detection_yunet_2023mar.onnx",
        size=232_589,
    ),
    Weight(
        "insightface",
        "insightface/models/buffalo_l",
        "InsightFace detection, 106 landmarks, embeddings (the insightface package also fetches it by itself)",
        "InsightFace, non-commercial",
        url=f"{GITHUB}/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip",
        commercial=False,
        members=("det_10g.onnx", "2d106det.onnx", "w600k_r50.onnx"),
    ),
    _auxiliary("syncnet_v2.model", "SyncNet v2: Sync-C, Sync-D and audio offset"),
    _auxiliary("koniq_pretrained.pkl", "hyperIQA: picture quality of training clips"),
    _auxiliary("i3d_torchscript.pt", "I3D: FVD"),
    _auxiliary("vit_g_hybrid_pt_1200e_ssv2_ft.pth", "VideoMAE v2: TREPA loss"),
    _auxiliary("vgg16-397923af.pth", "VGG16: LPIPS loss"),
    Weight(
        "inception",
        "auxiliary/weights-inception-2015-12-05-6726825d.pth",
        "Inception v3: FID",
        "Apache-2.0",
        url=f"{GITHUB}/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    _gfpgan("1.4", "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"),
    _gfpgan("1.3", "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70"),
    Weight(
        "codeformer",
        "CodeFormer/codeformer.pth",
        "CodeFormer face restoration",
        "S-Lab, non-commercial",
        url=f"{GITHUB}/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
        size=376_637_898,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        commercial=False,
    ),
    Weight(
        "restoreformer",
        "RestoreFormer/RestoreFormer.pth",
        "RestoreFormer face restoration",
        "Apache-2.0",
        url=f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
        size=290_785_322,
        sha256="07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
    ),
    _facexlib(
        "v0.2.2",
        "parsing_parsenet.pth",
        "face parsing for restoration",
        85_331_193,
        "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
    ),
    _facexlib(
        "v0.1.0",
        "detection_Resnet50_Final.pth",
        "face detection for restoration",
        109_497_761,
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    ),
)

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(weight.group for weight in WEIGHTS))


def select(version: str = "1.6", only: list[str] | tuple[str, ...] | None = None) -> list[Weight]:
    """The rows of `version` in the groups `only`, or in those that `run` needs.

    Raises:
        ValueError: an unknown version or group; the sentence lists the known ones.
    """
    if version not in RESOLUTIONS:
        raise ValueError(f"version is {version!r}: choose one of {', '.join(RESOLUTIONS)}")
    wanted = RUN_GROUPS if only is None else tuple(only)
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise ValueError(f"no group of files is called {', '.join(unknown)!r}: choose from {', '.join(GROUPS)}")
    return [w for w in WEIGHTS if w.group in wanted and w.version in (None, version)]
