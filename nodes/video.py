"""A video in, a video out, in one pass and in memory that does not grow with its length."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl, io

from ..latentsync.face.landmarks import Detector
from ..latentsync.media import VideoWriter
from ..latentsync.pipelines.lip_sync import LipSyncInput, LipSyncResult, lip_sync_frames
from ..latentsync.progress import Progress
from ..latentsync.settings import SAMPLERS, BlendSettings, RunSettings, Settings
from . import folders, inputs, runtime, sockets
from .face import track_settings
from .sample import deep_cache_widget, sampling_widgets
from .video_input import Source, opened

logger = logging.getLogger(__name__)

DETECTING = "looking for the face"


class Video(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncVideo",
            display_name="Lip Sync Video",
            category="LatentSync/video",
            description="Makes the person in a video speak the audio: finds the face, syncs the mouth, blends and "
            "encodes in one pass. Memory does not grow with the length of the video.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Video.Input("video", tooltip="The video of the person who is to speak."),
                io.Audio.Input(
                    "audio", tooltip="The speech to sync to. Any sample rate; all channels are kept in the result."
                ),
                sockets.Model.Input("model", tooltip="The lip-sync model."),
                sockets.Detector.Input(
                    "detector",
                    optional=True,
                    tooltip="Finds the face. Without it a track file beside the video (clip.mp4, clip.faces.json) is "
                    "used, else the best detector whose weights are there.",
                ),
                *sampling_widgets(),
                *inputs.face(),
                inputs.smoothing(),
                inputs.max_gap(),
                inputs.detect_every(),
                inputs.audio_longer(),
                inputs.audio_shorter(),
                inputs.mask_smooth(),
                inputs.match_colour(),
                io.Int.Input(
                    "crf",
                    default=RunSettings.crf,
                    min=0,
                    max=51,
                    tooltip="Quality of the H.264 video, from 0 (best) to 51. Lower means better quality and a larger "
                    "file.",
                ),
                deep_cache_widget(),
            ],
            outputs=[
                io.Video.Output(
                    "result",
                    display_name="video",
                    tooltip="The finished video with the audio, in the temp folder: save it.",
                )
            ],
        )

    @classmethod
    def execute(cls, video, audio, model, detector=None, **widgets) -> io.NodeOutput:
        settings, wave = run_settings(widgets), inputs.heard(audio)
        out = runtime.temp_file(".mp4")
        try:
            with opened(video, cache=2 * settings.sync.window) as source:
                detector, progress = chosen_detector(detector, source.file, runtime.progress(cls))
                model = model.on_device(settings.sync.window)
                take = LipSyncInput(source.frames, float(source.fps), wave)
                spoken = lip_sync_frames(take, model, detector, settings, progress)
                del wave, take
                write(spoken, source, audio, settings.crf, out)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
        return io.NodeOutput(InputImpl.VideoFromFile(str(out)))


def run_settings(widgets: Mapping[str, Any]) -> RunSettings:
    """The node's widgets as settings of a run."""
    inputs.choice("sampler", widgets["sampler"], SAMPLERS)
    face = {name: widgets[name] for name in ("face", "index", "x", "y", "smoothing", "max_gap")}
    sync = {name: widgets[name] for name in ("steps", "guidance", "seed", "sampler", "window", "overlap")}
    run = {name: widgets[name] for name in ("detect_every", "audio_longer", "audio_shorter", "crf")}
    return RunSettings(
        sync=Settings(**sync, deep_cache=widgets.get("deep_cache", 0)),
        track=track_settings(**face),
        blend=BlendSettings(widgets["mask_smooth"], widgets["match_colour"]),
        **run,
    )


def chosen_detector(detector: Detector | None, file: Path | None, progress: Progress) -> tuple[Detector, Progress]:
    """What finds the face: the detector connected, else a track file beside the video, else the best there is.

    The progress that comes back says so where it is a track file that nobody connected.
    """
    if detector is not None:
        return detector, progress
    beside = None if file is None else file.with_name(file.stem + folders.TRACK_ENDING)
    if beside is None or not beside.is_file():
        from ..latentsync.face.detect import load_detector

        return load_detector("auto", checkpoints=folders.models_folder()), progress
    from ..latentsync.face.track_file import read_track_file

    logger.info("no face detector is connected: the face's place is read from %s", beside)

    def saying(phase: str, done: float, total: int) -> None:
        progress(f"reading the face from {beside.name}" if phase == DETECTING else phase, done, total)

    return read_track_file(beside), saying


def write(spoken: LipSyncResult, source: Source, audio: Mapping[str, Any], crf: int, out: Path) -> None:
    """Render and encode with the sound `audio`, at the source's rate, size and colours; it may be cancelled."""
    sound = runtime.audio_file(audio)
    try:
        track = spoken.sound(sound)
        with VideoWriter(out, source.fps, *source.size, crf=crf, **source.tags, **track) as writer:
            for window in spoken.windows():
                for frame in window.pictures:
                    runtime.check_interrupted()
                    writer.write(frame[None])
    finally:
        sound.unlink(missing_ok=True)
