"""A video in, a video out, in one pass and in memory that does not grow with its length."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl, io, ui

from ..latentsync.face.landmarks import Detector
from ..latentsync.media import VideoWriter
from ..latentsync.media.browser import playable
from ..latentsync.models.samples import TRACK_SUFFIX
from ..latentsync.pipelines.lip_sync import LipSyncInput, LipSyncResult, lip_sync_frames, stacked
from ..latentsync.pipelines.speakers import Person
from ..latentsync.progress import Progress
from ..latentsync.settings import EncodingSettings
from ..latentsync.threads import behind
from . import folders, inputs, runtime, sockets
from .base import node
from .face import find_detector
from .video_input import Source, opened

logger = logging.getLogger(__name__)

DETECTING = "looking for the face"


@node(advanced=inputs.SELDOM_TURNED, search_aliases=inputs.LIP_SYNC_ALIASES)
class Video(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncVideo",
            display_name="Lip Sync Video",
            category="LatentSync/video",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Video.Input("video"),
                io.Audio.Input("audio"),
                sockets.Model.Input("model"),
                sockets.Detector.Input("detector", optional=True),
                *inputs.run_widgets(),
                *inputs.widgets(EncodingSettings, "crf"),
                inputs.occlusion(),
                *inputs.more_run_widgets(),
                sockets.Speakers.Input("speakers", optional=True),
            ],
            outputs=[io.Video.Output("result", display_name="video")],
        )

    @classmethod
    def execute(cls, video, audio, model, detector=None, occlusion=None, speakers=None, **widgets) -> io.NodeOutput:
        settings = inputs.run_settings(widgets)
        audios = [audio, *(speaker.audio for speaker in speakers or ())]
        wave = stacked(map(inputs.mono_16k, audios))
        out = runtime.temp_file(".mp4")
        try:
            with opened(video, cache=2 * settings.sync.window) as source:
                detector, progress = chosen_detector(detector, source.file, runtime.progress(cls))
                people = [Person(detector, settings.track, None, f"speaker 1, {settings.track.which}")]
                people += [one.person(k, detector, widgets) for k, one in enumerate(speakers or (), 2)]
                model = model.on_device(settings.sync.window)
                given = LipSyncInput(source.frames, float(source.fps), wave, inputs.masks(occlusion, source.size))
                who = people if len(people) > 1 else detector
                result = lip_sync_frames(given, model, who, settings, progress)
                del wave, given
                write(result, source, audios, out)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
        # Alone: pictures of the run, which the page keeps after it, would be taken for the video.
        shown = ui.PreviewVideo([folders.served(out)]) if playable(out) else None
        return io.NodeOutput(InputImpl.VideoFromFile(str(out)), ui=shown)


def chosen_detector(detector: Detector | None, file: Path | None, progress: Progress) -> tuple[Detector, Progress]:
    """What finds the face: the detector connected, else a track file beside the video, else the best there is.

    The progress that comes back says so where it is a track file that nobody connected.
    """
    if detector is not None:
        return detector, progress
    beside = None if file is None else file.with_name(file.stem + TRACK_SUFFIX)
    if beside is None or not beside.is_file():
        return find_detector(), progress
    from ..latentsync.face.track_file import read_track_file

    logger.info("no face detector is connected: the face's place is read from %s", beside)

    def saying(phase: str, done: float, total: int) -> None:
        progress(f"reading the face from {beside.name}" if phase == DETECTING else phase, done, total)

    return read_track_file(beside), saying


def write(result: LipSyncResult, source: Source, audios: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Render and encode with the sound of all `audios`, at the source's rate, size and colours; it may be cancelled."""
    if source.file is not None:
        source.frames.warn_of_losses()
    sounds: list[Path] = []
    try:
        sounds += map(runtime.audio_file, audios)
        track = result.sound(sounds if len(sounds) > 1 else sounds[0])
        with VideoWriter(
            out, source.fps, *source.size, **asdict(result.settings.encoding), **source.tags, **track
        ) as writer:
            for _ in behind(lambda window: writer.write(window.pictures), result.windows()):
                runtime.check_interrupted()
    finally:
        for sound in sounds:
            sound.unlink(missing_ok=True)
