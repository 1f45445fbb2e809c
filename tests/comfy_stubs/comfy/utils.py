"""Stand-in for `comfy.utils`: the progress bar and the safe loader of weights."""

from . import model_management

PROGRESS_BAR_HOOK = None


class ProgressBar:
    """Counts to `total`; each update is a point where a cancelled run ends, because the server's hook looks there."""

    def __init__(self, total, node_id=None):
        self.total = total
        self.current = 0
        self.hook = PROGRESS_BAR_HOOK
        self.node_id = node_id

    def update_absolute(self, value, total=None, preview=None):
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        model_management.throw_exception_if_processing_interrupted()
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)

    def update(self, value):
        self.update_absolute(self.current + value)
