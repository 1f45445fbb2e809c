"""What `benchmarks/robustness.py` finds, and that it finds it."""

import sys
from pathlib import Path

import pytest

from latentsync.face.blend import Blender
from latentsync.media import VideoWriter

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import robustness


def test_no_awkward_clip_fails_and_a_fault_in_one_shows(monkeypatch, capsys):
    def clips(*kinds: str) -> str:
        monkeypatch.setattr(sys, "argv", ["robustness.py", "--clips", str(len(kinds)), "--only", *kinds])
        with pytest.raises(SystemExit) as ended:
            robustness.main()
        told = capsys.readouterr().out
        assert bool(ended.value.code) == (not told.rstrip().endswith(" 0 failures"))
        return told

    assert "2 clips (0 real), 12 frames, 12 with the face" in (told := clips("occluded", "no_face"))
    assert told.rstrip().endswith("0 aborts, 0 failures")
    blended, written = Blender.__call__, VideoWriter.write

    def leaking(self, *args):
        out = blended(self, *args)
        out[0, 0, 0] ^= 1
        return out

    monkeypatch.setattr(Blender, "__call__", leaking)
    assert "frame 0: 1 pixels changed that are not to change" in clips("plain")
    monkeypatch.setattr(Blender, "__call__", blended)
    monkeypatch.setattr(VideoWriter, "write", lambda self, frames: written(self, frames[: 1 - self.count]))
    assert "frames: 1, not 12" in clips("plain")
    monkeypatch.setattr(VideoWriter, "write", lambda self, frames: 1 / 0)
    assert "aborted: ZeroDivisionError" in clips("plain")
