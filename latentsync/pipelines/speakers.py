"""Who speaks in a video, and what each of them says."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..face.landmarks import Detector, Face
from ..face.masks import read_picture
from ..face.shots import colour_histogram
from ..face.track import largest
from ..face.track_file import FaceFile, read_track_file
from ..settings import TrackSettings, parse_face

FACES = "largest, similar, index:K, nearest:X,Y, a track file (.json) or a picture of the person"


@dataclass(frozen=True)
class Speaker:
    """A person by `face`, as in `TrackSettings.which`, by a track file or by a picture, who says `audio`, a file."""

    face: str
    audio: str | os.PathLike

    @property
    def file(self) -> Path | None:
        """The track file or the picture."""
        try:
            parse_face(self.face)
        except InputError:
            return Path(self.face)
        return None

    @property
    def tracked(self) -> bool:
        """Whether it is a track file that says where the face is."""
        return self.file is not None and self.file.suffix.lower() == ".json"

    @property
    def by_looks(self) -> bool:
        """Whether it is someone like a picture, or like the first face found."""
        return self.face == "similar" or self.file is not None and not self.tracked


@dataclass(frozen=True, eq=False)
class Person:
    """Someone to be followed.

    Attributes:
        detector: what sees the faces.
        settings: which of them it is.
        like: a face that it is "similar" to; None is the first one found.
        name: for messages, where there are several.
    """

    detector: Detector
    settings: TrackSettings
    like: Face | None = None
    name: str = ""


def parse_speaker(text: str) -> Speaker:
    """The speaker of FACE=AUDIO."""
    face, equals, audio = text.partition("=")
    if not (face and equals and audio):
        raise InputError(f"speaker is {text!r}: give FACE=AUDIO, where FACE is {FACES}")
    return Speaker(face, audio)


def check_speakers(speakers: Sequence[Speaker]) -> None:
    """Refuse, before any work, files that are not there and the same face twice."""
    for number, speaker in enumerate(speakers, 1):
        if not os.path.isfile(speaker.audio):
            raise FileError(f"speaker {number} has no audio {speaker.audio}: check the path")
        if speaker.file is not None and not speaker.file.is_file():
            raise InputError(f"speaker {number} is {speaker.face!r}, and there is no such file: give {FACES}")
        first = [other.face for other in speakers].index(speaker.face) + 1
        if first != number:
            raise InputError(
                f"speakers {first} and {number} are both {speaker.face}: give each one a face of their own"
            )


def people_of(speakers: Sequence[Speaker], detector: Detector, settings: TrackSettings) -> list[Person]:
    """Whom to follow for each speaker; `detector` is for those without a track file."""
    people = []
    for number, speaker in enumerate(speakers, 1):
        name = f"speaker {number}, {speaker.face}" if len(speakers) > 1 else ""
        if speaker.tracked:
            people.append(Person(read_track_file(speaker.file), settings, None, name))
        elif speaker.file is None:
            people.append(Person(detector, replace(settings, which=speaker.face), None, name))
        else:
            way_out = "give a PNG or JPEG that shows the person"
            picture = read_picture(speaker.file, "picture of a person", way_out)
            people.append(person_like(picture, speaker.face, detector, settings, name))
    return people


def person_like(picture: np.ndarray, where: str, detector: Detector, settings: TrackSettings, name: str = "") -> Person:
    """The one in `picture`, uint8 RGB (h, w, 3); its largest face. `where` it is from is for the error."""
    if isinstance(detector, FaceFile):
        raise InputError(f"{where}: a track file finds no face in a picture; give another detector, or {FACES}")
    if not (faces := detector(picture, 0)):
        raise InputError(f"{where}: no face is found in the picture; give one that shows the person from the front")
    face = largest(faces)
    face = replace(face, appearance=colour_histogram(picture, face))
    return Person(detector, replace(settings, which="similar"), face, name)
