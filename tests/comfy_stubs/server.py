"""Stand-in for ComfyUI's server: no instance, as in a run without one; tests may set `PromptServer.instance`."""


class PromptServer:
    instance = None

    def __init__(self):
        self.client_id = None
        self.sent = []

    def send_progress_text(self, text, node_id, sid=None):
        self.sent.append(("text", (text, node_id)))
