"""TREPA, temporal representation alignment: clips are compared by VideoMAE v2 features, not frame by frame.

LatentSync, arXiv 2412.09262, sec. 3; VideoMAE v2, arXiv 2303.16727. The blocks are those of transformers.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import InputError
from ..models.state_dict import load_state_dict, recognise
from ..nets.loading import assign, check_state_dict

if TYPE_CHECKING:
    import transformers

SIDE = 224  # pixels; the fixed position table belongs to this size
FRAMES = 16
NORM_EPS = 1e-6
HEADS = {1280: 16, 1408: 16}  # by width: ViT-H and ViT-g, with which LatentSync was trained; the others have
HEAD_WIDTH = 64

# Names in VideoMAE below and what the published checkpoint calls them, applied in this order. transformers keeps the
# biases of query and value in their linear layers; before version 5 they were parameters beside these.
PUBLISHED_NAMES = (
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^backbone\.encoder\.layer\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.(query|key|value)\.weight$", ".attn.qkv.weight"),
    (r"\.attention\.attention\.(query\.|q_)bias$", ".attn.q_bias"),
    (r"\.attention\.attention\.(value\.|v_)bias$", ".attn.v_bias"),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
THIRDS = {"query.weight": 0, "key.weight": 1, "value.weight": 2}


def videomae_config(
    width: int, depth: int, n_head: int, mlp_width: int, patch: int, tubelet: int
) -> "transformers.VideoMAEConfig":
    """transformers' configuration of a VideoMAE v2 encoder."""
    try:
        import transformers
    except ImportError as error:
        raise InputError("the TREPA loss needs the transformers package: pip install transformers") from error
    return transformers.VideoMAEConfig(
        image_size=SIDE,
        patch_size=patch,
        num_frames=FRAMES,
        tubelet_size=tubelet,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=n_head,
        intermediate_size=mlp_width,
        hidden_act="gelu",  # the exact one
        layer_norm_eps=NORM_EPS,
        use_mean_pooling=True,
    )


def read_config(state_dict: Mapping[str, Tensor]) -> "transformers.VideoMAEConfig":
    """The configuration read off a state dict with the published names; the number of heads follows from the width."""
    patches, fc1 = state_dict.get("patch_embed.proj.weight"), state_dict.get("blocks.0.mlp.fc1.weight")
    if patches is None or fc1 is None or patches.ndim != 5:
        raise ValueError(
            f"the weights look like {recognise(state_dict)}, not a VideoMAE v2: give vit_g_hybrid_pt_1200e_ssv2_ft.pth"
        )
    width, _, tubelet, patch, _ = patches.shape
    n_head = HEADS.get(width, max(1, width // HEAD_WIDTH))
    depth = len({name.split(".")[1] for name in state_dict if name.startswith("blocks.")})
    return videomae_config(width, depth, n_head, fc1.shape[0], patch, tubelet)


class VideoMAE(nn.Module):
    """VideoMAE v2 as an extractor of one feature vector for each clip."""

    def __init__(self, config: "transformers.VideoMAEConfig"):
        super().__init__()
        import transformers

        self.backbone = transformers.VideoMAEModel(config)
        self.fc_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)

    def forward(self, clips: Tensor) -> Tensor:
        """Features of unit length, (b, width) float32, of clips (b, 3, n_frames, h, w) in [-1, 1] and of any size.

        What is beyond that range is cut off. Gradients flow to `clips`.
        """
        if clips.ndim != 5 or clips.shape[1:3] != (3, FRAMES):
            raise ValueError(f"clips have shape {tuple(clips.shape)}: give (b, 3, {FRAMES}, h, w)")
        pictures = rearrange(clips.float(), "b c f h w -> (b f) c h w")
        pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", align_corners=False)
        # Bicubic overshoots, hence the order. The published program feeds [0, 1] without ImageNet's mean and deviation.
        pictures = (pictures / 2 + 0.5).clamp(0, 1)
        videos = rearrange(pictures, "(b f) c h w -> b f c h w", b=len(clips)).to(self.fc_norm.weight.dtype)
        tokens = self.backbone(videos).last_hidden_state
        return F.normalize(self.fc_norm(tokens.mean(dim=1)).float(), dim=1)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> "VideoMAE":
        """Build the net that a state dict with the published names describes and load it strictly, frozen.

        The classifier, `head`, is not used.
        """
        with torch.device("meta"):
            net = cls(read_config(state_dict))
        published = {name: tensor for name, tensor in state_dict.items() if not name.startswith("head.")}
        expected, parts = {}, {}
        for name, tensor in net.state_dict().items():
            source, third = published_name(name)
            expected[source] = tensor if third is None else tensor.repeat(3, *[1] * (tensor.ndim - 1))
            parts[name] = source, third
        check_state_dict(expected, published, "VideoMAE v2")
        weights = {name: published[s] if k is None else published[s].chunk(3)[k] for name, (s, k) in parts.items()}
        assign(net, weights, dtype)
        return net.eval().requires_grad_(False)

    def enable_gradient_checkpointing(self) -> None:
        """From now on, until `eval`, the backward pass computes activations again, block by block."""
        self.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        # transformers only does so in training mode, which changes nothing else: these blocks drop nothing out.
        self.backbone.train()


def load_trepa(path: str | Path, dtype: torch.dtype = torch.float32) -> VideoMAE:
    """The VideoMAE v2 in a file (published: `vit_g_hybrid_pt_1200e_ssv2_ft.pth`, ViT-g in float16), frozen."""
    state = load_state_dict(path)
    try:
        return VideoMAE.from_state_dict(state, dtype)
    except ValueError as error:
        raise InputError(f"{path} does not load: {error}") from error


def trepa_loss(net: VideoMAE, predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference between the features of clips (b, 3, f, h, w) in [-1, 1]; gradients for `predicted`."""
    with torch.no_grad():
        wanted = net(target)
    return F.mse_loss(net(predicted), wanted)


def published_name(name: str) -> tuple[str, int | None]:
    """What the published checkpoint calls the tensor `name` of `VideoMAE`, and which third of it that is, or None."""
    third = THIRDS.get(".".join(name.split(".")[-2:]))
    for pattern, replacement in PUBLISHED_NAMES:
        name = re.sub(pattern, replacement, name)
    return name, third
