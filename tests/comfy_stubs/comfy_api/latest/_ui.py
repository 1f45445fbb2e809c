"""Stand-in for `comfy_api.latest.ui`: pictures and text shown on a node."""

import os
import random

import folder_paths
import numpy as np
from PIL import Image as PILImage

from ._io import FolderType


class SavedResult(dict):
    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class PreviewImage:
    """Writes each picture as a PNG into the temp folder and names the files."""

    def __init__(self, image, animated=False, cls=None, **kwargs):
        prefix = "ComfyUI_temp_" + "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5))
        height, width = image[0].shape[:2]
        saved = folder_paths.get_save_image_path(prefix, folder_paths.get_temp_directory(), width, height)
        folder, name, counter, subfolder, _ = saved
        self.animated = animated
        self.values = []
        for number, picture in enumerate(image, counter):
            file = f"{name}_{number:05}_.png"
            pixels = np.clip(picture.cpu().numpy() * 255.0, 0, 255).astype(np.uint8)
            PILImage.fromarray(pixels).save(os.path.join(folder, file), compress_level=1)
            self.values.append(SavedResult(file, subfolder, FolderType.temp))

    def as_dict(self):
        return {"images": self.values, "animated": (self.animated,)}


class PreviewVideo:
    def __init__(self, values, **kwargs):
        self.values = values

    def as_dict(self):
        return {"images": self.values, "animated": (True,)}


class PreviewText:
    def __init__(self, value, **kwargs):
        self.value = value

    def as_dict(self):
        return {"text": (self.value,)}
