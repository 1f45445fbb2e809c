"""What the demo works on: a drawn head that says one thing, the sound of another, and how it would look saying that."""

from dataclasses import dataclass
from pathlib import Path

from ...face.track import FaceTrack
from ...face.track_file import write_track_file
from ..heads.clip import Clip, render
from ..heads.corpus import detections, track_clip, write_clip, write_wav
from ..heads.speaker import make_speaker
from ..heads.speech import Speech, make_speech, speak

SIZE = 256  # side of the pictures in pixels


@dataclass(frozen=True, eq=False)
class Scene:
    """One head, two speeches of the same length in the same voice.

    Attributes:
        source: the head saying the old words.
        truth: the same pictures, with the same head saying the new words.
        speech: the new words.
    """

    source: Clip
    truth: Clip
    speech: Speech

    def track(self, resolution: int) -> FaceTrack:
        """Where the face is, in both clips."""
        return track_clip(self.source, resolution)


def make_scene(seed: int, seconds: float) -> Scene:
    """The scene that follows from `seed`; see `synthetic.render` for what is equal in both clips."""
    old = make_speech(seed, seconds)
    new = speak(make_speech(seed + 1, seconds).phones, seconds, seed)  # other words, this seed's voice
    speaker = make_speaker(seed)
    return Scene(render(speaker, old, SIZE, seed), render(speaker, new, SIZE, seed), new)


def write_scene(scene: Scene, folder: Path) -> tuple[Path, Path, Path]:
    """Write `source.mp4` with its own sound, `audio.wav` (the new words) and `track.json` (where the face is).

    Raises:
        OSError: they cannot be written.
    """
    video, audio, track = (folder / name for name in ("source.mp4", "audio.wav", "track.json"))
    source = scene.source
    write_clip(video, source.frames, source)
    write_wav(audio, scene.truth.waveform, scene.truth.rate)
    write_track_file(track, detections(source), SIZE, SIZE, source.fps)
    return video, audio, track
