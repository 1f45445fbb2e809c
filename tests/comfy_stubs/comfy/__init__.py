"""Stand-in for what the nodes touch of ComfyUI's `comfy`: same names, arguments and behaviour, on the CPU."""
