"""A video in, a video out, in one pass and in memory that does not grow with its length."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from comfy_api.latest import InputImpl, io

from ..latentsync.face.landmarks import Detector
from ..latentsync.media import VideoWriter
from ..latentsync.pipelines.lip_sync import LipSyncInput, LipSyncResult, lip_sync_frames
from ..latentsync.progress import Progress
from ..latentsync.settings import SAMPLERS, BlendSettings, EndMode, RunSettings, Settings, TrackSettings
from . import folders, inputs, runtime, sockets
from .face import face_inputs, track_settings
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
            inputs=[*_sockets(), *sampling_widgets(), *_face_widgets(), *_output_widgets(), deep_cache_widget()],
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
    """The node's widgets as settings of a run.

    Raises:
        ValueError: a value out of range, or one that is not in its list.
    """
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
    """Render and encode with the sound `audio`, at the source's rate, size and colours; it may be cancelled.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    sound = runtime.audio_file(audio)
    try:
        track = spoken.sound(sound, float(source.fps))
        with VideoWriter(out, source.fps, *source.size, crf=crf, **source.tags, **track) as writer:
            for window in spoken.windows:
                for frame in window:
                    runtime.check_interrupted()
                    writer.write(frame[None])
    finally:
        sound.unlink(missing_ok=True)


def _sockets() -> list[io.Input]:
    return [
        io.Video.Input("video", tooltip="The video of the person who is to speak."),
        io.Audio.Input("audio", tooltip="What is to be said. Any sample rate; all channels are kept in the result."),
        sockets.Model.Input("model", tooltip="The lip-sync model."),
        sockets.Detector.Input(
            "detector",
            optional=True,
            tooltip="What finds the face. Without it a track file beside the video (clip.mp4, clip.faces.json), else "
            "the best detector whose weights are there.",
        ),
    ]


def _face_widgets() -> list[io.Input]:
    usual = TrackSettings()
    seconds = {"min": 0.0, "max": 60.0, "step": 0.01}
    return [
        *face_inputs(),
        io.Float.Input(
            "smoothing",
            default=usual.smoothing,
            **seconds,
            tooltip="Seconds over which the face's place is smoothed, against jitter; 0 is off.",
        ),
        io.Float.Input(
            "max_gap",
            default=usual.max_gap,
            **seconds,
            tooltip="Seconds without a face that are bridged; in longer gaps the video passes through.",
        ),
        io.Int.Input(
            "detect_every",
            default=1,
            min=1,
            max=100,
            tooltip="Look for the face in every n-th frame only and draw lines between; more is faster.",
        ),
    ]


def _output_widgets() -> list[io.Input]:
    usual = RunSettings()
    return [
        io.Combo.Input(
            "audio_longer",
            options=list(get_args(EndMode)),
            default=usual.audio_longer,
            tooltip="What the video does while a longer audio goes on: play back and forth, start over, hold its last "
            "frame, or end.",
        ),
        io.Combo.Input(
            "audio_shorter",
            options=["stop", "silent"],
            default=usual.audio_shorter,
            tooltip="When the audio ends first: stop the video too, or go on with a silent mouth.",
        ),
        io.Float.Input(
            "mask_smooth",
            default=usual.blend.mask_smooth,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Width of the soft edge around the new mouth, 0 (hard) to 1.",
        ),
        io.Boolean.Input(
            "match_colour",
            default=usual.blend.match_colour,
            tooltip="Shift the new mouth's colours so that the skin around it matches the video's.",
        ),
        io.Int.Input(
            "crf", default=usual.crf, min=0, max=51, tooltip="Quality of the H.264 video: less is better and larger."
        ),
    ]
