"""LatentSync for ComfyUI. Nothing is imported until ComfyUI asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension that ComfyUI loads."""
    import logging

    try:
        from .nodes.extension import LatentSyncExtension

        return LatentSyncExtension()
    except Exception as error:
        # ComfyUI logs what goes wrong here in one line, without where.
        pip = f"`pip install -r requirements.txt` in {__path__[0]}, with ComfyUI's Python, gets what is missing"
        hint = f" ({pip})" if isinstance(error, ModuleNotFoundError) else ""
        logging.getLogger(__name__).exception("the LatentSync nodes do not load%s", hint)
        raise
