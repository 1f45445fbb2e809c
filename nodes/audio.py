"""Sound: what the net hears of it, and pictures brought to its length."""

import math
from dataclasses import replace

import torch.nn.functional as F
from comfy_api.latest import io

from ..latentsync.audio.whisper import SAMPLE_RATE
from ..latentsync.errors import InputError
from ..latentsync.pipelines.lip_sync import frame_map, listen
from ..latentsync.settings import RunSettings
from ..latentsync.wrapper_workflow import MODES
from . import inputs, runtime, sockets
from .base import node


@node(advanced=("hard_cut",), search_aliases=("whisper", "audio features", "lipsync"))
class EncodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncEncodeAudio",
            display_name="Encode Audio for Lip Sync",
            category="LatentSync/audio",
            inputs=[
                sockets.Model.Input("model"),
                io.Audio.Input("audio"),
                inputs.fps(),
                io.Image.Input("images", optional=True),
                io.Boolean.Input("hard_cut", default=False),
            ],
            outputs=[sockets.Audio.Output(display_name="features")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, audio, fps, images=None, hard_cut=False) -> io.NodeOutput:
        wave = inputs.mono_16k(audio)
        length = max(1, round(len(wave) / SAMPLE_RATE * fps)) if images is None else len(images)
        runtime.progress(cls)("listening", 0, length)
        # The encoder looks for the user's cancel by itself.
        return io.NodeOutput(listen(model.loaded_audio_encoder(), wave, fps, length, hard_cut))


@node(advanced=("silent_padding",), search_aliases=("video length adjuster", "pingpong", "loop to audio"))
class MatchLength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncMatchLength",
            display_name="Match Length to Audio",
            category="LatentSync/audio",
            inputs=[
                io.Image.Input("images"),
                io.Audio.Input("audio"),
                inputs.fps(),
                sockets.Track.Input("track", optional=True),
                *inputs.widgets(RunSettings, "audio_longer", "audio_shorter"),
                io.Float.Input("silent_padding", default=0.0, min=0.0, max=60.0, step=0.1, optional=True),
            ],
            outputs=[
                io.Image.Output("images_out", display_name="images"),
                io.Audio.Output("audio_out", display_name="audio"),
                sockets.Track.Output("track_out", display_name="track"),
                io.Int.Output(display_name="frame_count"),
            ],
        )

    @classmethod
    def validate_inputs(cls, audio_longer, audio_shorter) -> bool:
        return True  # `execute` says what is wrong

    @classmethod
    def execute(cls, images, audio, fps, audio_longer, audio_shorter, track=None, silent_padding=0.0) -> io.NodeOutput:
        # The modes of VideoLengthAdjuster, where ComfyUI put this node in its place.
        audio_longer = MODES["audio_longer"].get(audio_longer, audio_longer)
        audio_shorter = MODES["audio_shorter"].get(audio_shorter, audio_shorter)
        settings = RunSettings(fps=fps, audio_longer=audio_longer, audio_shorter=audio_shorter)
        if track is not None and len(track.faces) != len(images):
            raise InputError(
                f"the face track covers {len(track.faces)} frames and the clip has {len(images)}: track this clip again"
            )
        if not 0 <= silent_padding < math.inf:
            raise InputError(f"silent_padding is {silent_padding}: give the seconds of silence, 0 or more")
        _, rate = inputs.sound(audio)
        audio = _padded(audio, math.ceil(silent_padding * rate))
        index_map = frame_map(len(images), len(inputs.mono_16k(audio)) / SAMPLE_RATE * fps, settings)
        count = len(index_map)
        if index_map != list(range(len(images))):
            images = images[index_map]
        if track is not None:
            faces = [track.faces[i] for i in index_map]
            track = replace(track, track=track.track.take(index_map), faces=faces)
        return io.NodeOutput(images, of_length(audio, count, fps), track, count)


def of_length(audio, frames: int, fps: float):
    """`audio` with the length of so many frames; itself where it is less than a frame off."""
    missing = round(frames / fps * audio["sample_rate"]) - audio["waveform"].shape[-1]
    return audio if abs(missing) * fps < audio["sample_rate"] else _padded(audio, missing)


def _padded(audio, samples: int):
    """`audio` followed by so many samples of silence; without its last ones for a negative number."""
    if samples == 0:
        return audio
    return {"waveform": F.pad(audio["waveform"], (0, samples)), "sample_rate": audio["sample_rate"]}
