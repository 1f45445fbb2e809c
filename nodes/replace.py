"""Newer ComfyUI offers our nodes where a workflow has those of ComfyUI-LatentSyncWrapper and that is not installed."""

from comfy_api.latest import io

from ..latentsync.wrapper_workflow import REPLACEMENTS, SEED_CONTROL


async def register_replacements() -> None:
    """Nothing where ComfyUI cannot replace nodes, as 0.3.64."""
    if not hasattr(io, "NodeReplace"):
        return
    from comfy_api.latest import ComfyAPI

    for this in REPLACEMENTS.values():
        taken = {name: name for name in ("images", "audio")} | this.names
        mapping = [{"new_id": ours, "old_id": theirs} for ours, theirs in taken.items()]
        mapping += [{"new_id": name, "set_value": v} for name, v in this.defaults.items() if name not in taken]
        await ComfyAPI().node_replacement.register(
            io.NodeReplace(
                new_node_id=this.new,
                old_node_id=this.old,
                old_widget_ids=list(this.old_widgets),
                # A prompt has no such input: it is the editor's own widget.
                input_mapping=[pair for pair in mapping if pair["new_id"] != SEED_CONTROL],
                output_mapping=[{"new_idx": slot, "old_idx": slot} for slot in (0, 1)],
            )
        )
