"""Stand-in for `comfy.model_patcher.ModelPatcher`: a net that lies on its offload device until it is loaded.

What does not fit is loaded in part: layers of `comfy.ops` that are left behind cast their weights at each call.
Patches of weights (LoRA, hooks) are not there.
"""

import uuid

from . import model_management


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size
        self.weight_inplace_update = weight_inplace_update
        self.parent = None
        self.patches_uuid = uuid.uuid4()
        self.model_options = {"transformer_options": {}}
        # Like the original: a model whose `device` cannot be set fails here.
        if getattr(model, "device", None) is None:
            model.device = offload_device
        if not hasattr(model, "model_loaded_weight_memory"):
            model.model_loaded_weight_memory = 0
        if not hasattr(model, "model_lowvram"):
            model.model_lowvram = False
        self.model_size()

    def model_size(self):
        self.size = self.size or model_management.module_size(self.model)
        return self.size

    def loaded_size(self):
        return self.model.model_loaded_weight_memory

    def lowvram_patch_counter(self):
        return 0

    def model_dtype(self):
        return self.model.get_dtype() if hasattr(self.model, "get_dtype") else None

    def model_patches_to(self, device):
        """There are no patches to move."""

    def model_patches_models(self):
        return []

    def current_loaded_device(self):
        return self.model.device

    def clone(self):
        other = type(self)(self.model, self.load_device, self.offload_device, self.size, self.weight_inplace_update)
        other.parent = self
        other.patches_uuid = self.patches_uuid
        return other

    def is_clone(self, other):
        return self.model is getattr(other, "model", None)

    def _layers(self):
        """(bytes, layer) of what is loaded as a whole, the largest first."""
        layers = []
        for layer in self.model.modules():
            own = {name for name, _ in layer.named_parameters(recurse=False)}
            below = {name for name, _ in layer.named_parameters()} - own
            if own and not below:
                layers.append((model_management.module_size(layer), layer))
        return sorted(layers, key=lambda pair: -pair[0])

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        loaded, behind = 0, 0
        for size, layer in self._layers():
            casts = hasattr(layer, "comfy_cast_weights")
            if casts and not full_load and loaded + size >= lowvram_model_memory:
                behind += 1
                if not hasattr(layer, "prev_comfy_cast_weights"):
                    layer.prev_comfy_cast_weights = layer.comfy_cast_weights
                    layer.comfy_cast_weights = True
                continue
            # A layer that cannot cast is moved only where it fits: a net of those has to be loaded in full.
            if full_load or loaded + size < lowvram_model_memory:
                self._settle(layer)
                layer.to(device_to)
                loaded += size
        self.model.model_lowvram = behind > 0
        if full_load:
            self.model.to(device_to)
            loaded = self.model_size()
        self.model.device = device_to
        self.model.model_loaded_weight_memory = loaded

    @staticmethod
    def _settle(layer):
        """Undo what leaving the layer behind changed."""
        if hasattr(layer, "prev_comfy_cast_weights"):
            layer.comfy_cast_weights = layer.prev_comfy_cast_weights
            del layer.prev_comfy_cast_weights

    def patch_model(self, device_to=None, lowvram_model_memory=0, load_weights=True, force_patch_weights=False):
        if load_weights:
            self.load(device_to, lowvram_model_memory, force_patch_weights, full_load=lowvram_model_memory == 0)
        return self.model

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if not unpatch_weights:
            return
        for layer in self.model.modules():
            self._settle(layer)
        if device_to is not None:
            self.model.to(device_to)
            self.model.device = device_to
        self.model.model_lowvram = False
        self.model.model_loaded_weight_memory = 0

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        """Load that many bytes more; how many it was."""
        before = self.loaded_size()
        if before > 0 and not self.model.model_lowvram:
            return 0
        full = before + extra_memory > self.model_size()
        self.load(device_to, before + extra_memory, force_patch_weights, full)
        return self.loaded_size() - before

    def partially_unload(self, device_to, memory_to_free=0):
        """Put casting layers back, the smallest first, until that many bytes are free; how many it was."""
        freed = 0
        for size, layer in reversed(self._layers()):
            if freed > memory_to_free:
                break
            if hasattr(layer, "comfy_cast_weights") and not hasattr(layer, "prev_comfy_cast_weights"):
                layer.to(device_to)
                layer.prev_comfy_cast_weights = layer.comfy_cast_weights
                layer.comfy_cast_weights = True
                freed += size
        self.model.model_lowvram = True
        self.model.model_loaded_weight_memory -= freed
        return freed

    def detach(self, unpatch_all=True):
        if unpatch_all:
            self.unpatch_model(self.offload_device, unpatch_weights=True)
        return self.model

    def cleanup(self):
        """There are no hooks to clean."""
