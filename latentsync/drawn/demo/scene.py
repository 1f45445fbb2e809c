"""What the demo works on: a drawn head that says one thing, other words, and how it would look saying those."""

from dataclasses import dataclass
from pathlib import Path

from ...face.track_file import write_track_file
from ..heads.clip import Clip, render
from ..heads.corpus import detections, write_clip, write_wav
from ..heads.speaker import make_speaker
from ..heads.speech import Speech, make_speech, speak

SIZE = 256  # side of the pictures in pixels


@dataclass(frozen=True, eq=False)
class Scene:
    """One head, two speeches of the same length in the same voice.

    Attributes:
        source: the head saying the old words.
        truth: the same head, moving the same way, saying the new words: only the lower face differs.
        speech: the new words.
    """

    source: Clip
    truth: Clip
    speech: Speech


def make_scene(seed: int, seconds: float) -> Scene:
    old = make_speech(seed, seconds)
    new = speak(make_speech(seed + 1, seconds).phones, seconds, seed)  # other words, this seed's voice
    speaker = make_speaker(seed)
    return Scene(render(speaker, old, SIZE, seed), render(speaker, new, SIZE, seed), new)


def write_scene(scene: Scene, folder: Path) -> tuple[Path, Path, Path]:
    """Write `source.mp4` with its own sound, `audio.wav` (the new words) and `track.json` (where the face is)."""
    video, audio, track = (folder / name for name in ("source.mp4", "audio.wav", "track.json"))
    source = scene.source
    write_clip(video, source.frames, source)
    write_wav(audio, scene.truth.waveform, scene.truth.rate)
    write_track_file(track, detections(source), SIZE, SIZE, source.fps)
    return video, audio, track
