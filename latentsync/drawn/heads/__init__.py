"""Talking heads made by formula: faces, voices and mouths to train and test a lip-sync model on, without any data."""

from .clip import Clip, make_clip, render
from .opening import measure_opening
from .phones import PLAIN, SOUNDS, Language, MouthShape, Sound
from .speaker import Speaker, make_speaker
from .speech import Speech, make_speech, speak
from .voice import Phone

__all__ = [
    "PLAIN",
    "SOUNDS",
    "Clip",
    "Language",
    "MouthShape",
    "Phone",
    "Sound",
    "Speaker",
    "Speech",
    "make_clip",
    "make_speaker",
    "make_speech",
    "measure_opening",
    "render",
    "speak",
]
