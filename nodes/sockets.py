"""The types of the wires between these nodes, beside ComfyUI's own."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..latentsync.face.landmarks import Face
from ..latentsync.face.track import FaceTrack

#: `runtime.ManagedModel`.
Model = io.Custom("LATENTSYNC_MODEL")
#: `latentsync.audio.whisper.AudioFeatures`.
Audio = io.Custom("LATENTSYNC_AUDIO")
#: `latentsync.face.landmarks.Detector`, which a `latentsync.face.track_file.FaceFile` is too.
Detector = io.Custom("LATENTSYNC_DETECTOR")
#: `TrackedFace`.
Track = io.Custom("LATENTSYNC_TRACK")
#: `latentsync.restore.Restorer`.
Restorer = io.Custom("LATENTSYNC_RESTORER")
#: A tuple of `speaker.Speaker`.
Speakers = io.Custom("LATENTSYNC_SPEAKERS")
#: ComfyUI's own, of newer versions: `landmarks.given_faces`.
Landmarks = io.Custom("FACE_LANDMARKS")
Boxes = io.Custom("BOUNDING_BOX")


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face through a clip, and what is needed to draw it.

    Attributes:
        track: where the face is in each frame.
        faces: the detection behind each frame; None where the face was not seen or nobody looked.
        fps: frames per second of the clip.
        size: (height, width) of its frames in pixels.
    """

    track: FaceTrack
    faces: list[Face | None]
    fps: float
    size: tuple[int, int]
