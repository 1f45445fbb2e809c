"""Several people in one Lip Sync Video: who they are, and what each of them says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..latentsync.face.landmarks import Detector
from ..latentsync.frames import as_uint8
from ..latentsync.pipelines.speakers import Person, person_like
from . import inputs, sockets
from .base import node


@dataclass(frozen=True, eq=False)
class Speaker:
    """One more person; `person` makes the library's of it, with the detector and the settings of the run."""

    audio: Mapping[str, Any]
    widgets: dict[str, Any]
    picture: Any
    detector: Detector | None

    def person(self, number: int, detector: Detector, run: dict[str, Any]) -> Person:
        """`run` are the widgets of the node that does the run."""
        detector, settings = self.detector or detector, inputs.track_settings(run | self.widgets)
        if self.picture is None:
            return Person(detector, settings, None, f"speaker {number}, {settings.which}")
        picture, name = as_uint8(inputs.pictures(self.picture)[0]).numpy(), f"speaker {number}, the one in the picture"
        return person_like(picture, name, detector, settings, name)


@node(advanced=("index", "x", "y"), search_aliases=("two speakers", "several people", "dialogue", "multi person"))
class AddSpeaker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSpeaker",
            display_name="Add Speaker",
            category="LatentSync/video",
            inputs=[
                io.Audio.Input("audio"),
                *inputs.face(),
                io.Image.Input("picture", optional=True),
                sockets.Detector.Input("detector", optional=True),
                sockets.Speakers.Input("speakers", optional=True),
            ],
            outputs=[sockets.Speakers.Output("speakers_out", display_name="speakers")],
        )

    @classmethod
    def execute(cls, audio, face, index, x, y, picture=None, detector=None, speakers=()) -> io.NodeOutput:
        inputs.sound(audio)  # refuses what is none here, where it is connected
        widgets = {"face": face, "index": index, "x": x, "y": y}
        inputs.track_settings(widgets)
        return io.NodeOutput((*(speakers or ()), Speaker(audio, widgets, picture, detector)))
