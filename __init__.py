"""LatentSync for ComfyUI. Nothing is imported until ComfyUI asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension that ComfyUI loads."""
    import logging

    try:
        from .nodes.extension import LatentSyncExtension

        return LatentSyncExtension()
    except Exception:
        # ComfyUI logs what goes wrong here in one line, without where.
        logging.getLogger(__name__).exception("the LatentSync nodes do not load")
        raise
