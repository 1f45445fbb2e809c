"""Stand-in for `comfy.model_patcher.ModelPatcher`: a net that lies on its offload device until it is loaded.

What does not fit is loaded in part: layers of `comfy.ops` that are left behind cast their weights at each call.
Patches of weights (LoRA, hooks) are not there.
"""

from . import model_management


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0):
        self.model, self.load_device, self.offload_device, self.size = model, load_device, offload_device, size
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
            fits = full_load or loaded + size < lowvram_model_memory
            if fits:
                layer.to(device_to)
                loaded += size
            # A layer that cannot cast must not stay behind: a net of those has to be loaded in full.
            layer.behind = not fits and hasattr(layer, "comfy_cast_weights")
            behind += layer.behind
        self.model.model_lowvram = behind > 0
        if full_load:
            self.model.to(device_to)
            loaded = self.model_size()
        self.model.device = device_to
        self.model.model_loaded_weight_memory = loaded

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
            if freed <= memory_to_free and hasattr(layer, "comfy_cast_weights") and not layer.behind:
                layer.to(device_to)
                layer.behind = True
                freed += size
        self.model.model_lowvram = True
        self.model.model_loaded_weight_memory -= freed
        return freed

    def detach(self, unpatch_all=True):
        self.model.to(self.offload_device)
        self.model.device = self.offload_device
        self.model.model_lowvram = False
        self.model.model_loaded_weight_memory = 0
        return self.model
