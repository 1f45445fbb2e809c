"""A judge in the place of SyncNet that tells by how many frames pictures and sound are apart."""

import numpy as np
import torch

from latentsync.audio.syncnet import mel_window


class Clock:
    """Judges by the time that pictures (brightness) and sound (loudness) tell; both rise over the clip."""

    sees_pixels = True
    weight = torch.zeros(1)

    def __init__(self, mel: torch.Tensor, frames: int, judged: int = 16):
        """Judges `judged` frames at once of a clip of `frames`."""
        self.frames = judged
        places = range(frames - judged + 1)
        self.known = torch.stack([mel_window(mel, place, frames=judged).mean() for place in places])

    @staticmethod
    def embedded(place: torch.Tensor) -> torch.Tensor:
        return torch.stack([(place / 20).cos(), (place / 20).sin()], dim=1)

    def embed_video(self, clip: torch.Tensor) -> torch.Tensor:
        return self.embedded((clip[:, :, 0].mean(dim=(1, 2, 3)) + 1) / 2 * 255)

    def embed_audio(self, mel: torch.Tensor) -> torch.Tensor:
        return self.embedded((mel.mean(dim=(1, 2, 3))[:, None] - self.known).abs().argmin(dim=1).float())


def rising_sound(frames: int) -> torch.Tensor:
    """(samples,) at 16 kHz of `frames` frames at 25 per second."""
    time = np.arange(frames * 640) / 16000
    noise = np.random.default_rng(0).standard_normal(len(time))
    return torch.from_numpy((1e-3 * 10 ** (1.5 * time) * noise).astype(np.float32))


def rising_pictures(frames: int, late: int = 0) -> torch.Tensor:
    """(frames, 8, 8, 3) that come so many frames after their sound."""
    places = (torch.arange(frames) - late + 0.0).clamp(min=0) / 255
    return places[:, None, None, None].expand(-1, 8, 8, 3)
