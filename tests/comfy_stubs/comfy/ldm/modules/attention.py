"""Stand-in for ComfyUI's attention: (batch, tokens, heads * width) in and out, by PyTorch's own kernel."""

import torch.nn.functional as F


def optimized_attention(
    q, k, v, /, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kwargs
):
    """`skip_reshape`: q, k, v are (batch, heads, tokens, width) already; `skip_output_reshape`: the result is too."""
    if not skip_reshape:
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    if mask is not None:
        mask = mask[None] if mask.ndim == 2 else mask
        mask = mask[:, None] if mask.ndim == 3 else mask
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out if skip_output_reshape else out.transpose(1, 2).flatten(-2)
