"""The published program's FVD and Sync-C/D, the accuracy of a SyncNet, and which protocol an output says it is of."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from embedded_weights import packaged
from evaluating import run, write_video
from flicker_net import FRAMES, Flicker, pictures, sound
from scipy.linalg import sqrtm

from latentsync.drawn.heads.corpus import CorpusSettings, write_corpus
from latentsync.evaluate import published
from latentsync.evaluate.sync_score import SyncScorer, syncnet_v2
from latentsync.face.landmarks import Detection, Face, points_from_box
from latentsync.files import file_sha256
from latentsync.models.embedded import EMBEDDED
from latentsync.progress import no_progress
from latentsync.train.syncnet import syncnet_accuracy


def face(box, score=0.9) -> Face:
    return Face(tuple(map(float, box)), score, points_from_box(box))


class Right:
    """Finds the right half of the picture, and with less certainty the left one; from frame `until` on nothing."""

    def __init__(self, until: int = 10**6):
        self.until, self.asked = until, []

    def __call__(self, frame, index):
        self.asked.append(index)
        height, width = frame.shape[:2]
        halves = [face((0, 0, width / 2, height), 0.7), face((width / 2, 0, width, height), 0.8)]
        return halves if index < self.until else []


def write_steps(path: Path, frames: int, step: int = 4) -> Path:
    """A video with a black left half and a right half that gets lighter by `step` each frame."""
    levels = (np.arange(frames) * step).clip(max=255).astype(np.uint8)
    shown = np.tile(levels[:, None, None, None], (1, 64, 128, 3))
    shown[:, :, :64] = 0
    return write_video(path, shown)


def test_fvd_sees_the_most_certain_face_of_frames_20_to_35_in_0_to_1(tmp_path):
    detector = Right()
    clip = published.face_clip(write_steps(tmp_path / "a.mp4", 36, 7), detector)
    assert detector.asked == list(range(20, 36)) and clip.shape == (16, 224, 224, 3)
    expected = (torch.arange(20, 36) * 7).clamp(max=255) / 255
    assert torch.allclose(clip[:, :, 20:].mean((1, 2, 3)), expected, atol=0.02) and clip.max() > 0.95
    with pytest.raises(ValueError, match="has 35 frames: the published FVD is of frames 20 to 35, give videos of 36"):
        published.face_clip(write_steps(tmp_path / "b.mp4", 35), detector)
    with pytest.raises(ValueError, match="shows no face in frame 35"):
        published.face_clip(tmp_path / "a.mp4", Right(until=35))


class Program(torch.nn.Module):
    """In the place of the I3D file; refuses pictures that are not as the published script hands them over."""

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert return_features and not rescale and not resize
        assert x.shape[1:] == torch.Size([3, 16, 224, 224])
        assert x.min() >= 0 and x.max() <= 1
        return torch.stack([x.mean(dim=(1, 2, 3, 4)), x.square().mean(dim=(1, 2, 3, 4)) * 3], dim=1)


def test_the_command_takes_two_folders_as_two_sets(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("latentsync.evaluate.tools.load_detector", lambda *names, **options: Right())
    (tmp_path / "auxiliary").mkdir()
    i3d = tmp_path / "auxiliary" / "i3d_torchscript.pt"
    torch.jit.script(Program()).save(str(i3d))
    monkeypatch.setattr("latentsync.evaluate.frechet.I3D_SHA256", file_sha256(i3d))
    sets = {"made": {"a": 4, "b": 5, "c": 7}, "true": {"w": 1, "x": 3, "y": 6, "z": 9}}
    vectors = {}
    for folder, videos in sets.items():
        paths = [write_steps(tmp_path / folder / f"{name}.mp4", 36, step) for name, step in videos.items()]
        clips = torch.stack([published.face_clip(path, Right()) for path in paths]).permute(0, 4, 1, 2, 3)
        vectors[folder] = Program()(clips, return_features=True).double().numpy()
    a, b = vectors.values()
    both = [np.cov(x, rowvar=False) for x in (a, b)]
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(sum(both) - 2 * sqrtm(both[0] @ both[1])).real
    files = ["--video_path", tmp_path / "made", "--reference", tmp_path / "true", "--checkpoints", tmp_path]
    how = ["--protocol", "published", "--json", tmp_path / "out.json", "--metric", "fvd"]
    code, out, _ = run(capsys, *files, *how)
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert code == 0 and content["all"]["fvd"] == pytest.approx(expected, abs=1e-5) and expected > 0.005
    assert content["protocol"] == "published" and content["about_protocol"] in out
    assert out.startswith("Protocol: published. ") and "found by Right" in out and "Not comparable" in out
    # Frame by frame is still by name; and what is too short for one clip is said.
    code, _, err = run(capsys, *files, *how, "psnr")
    assert code == 2 and "has no video named like a.mp4" in err
    write_steps(tmp_path / "true" / "short.mp4", 35)
    code, out, _ = run(capsys, *files, *how)
    assert code == 1 and "missing: FVD: " in out and "short.mp4 has 35 frames" in out
    code, out, _ = run(capsys, *files[:2], *files[4:], *how)
    assert code == 1 and "got 3 and 0 true ones" in out


def seen(count: int, box=(0, 0, 101, 90), cuts=(), without=()) -> list[Detection]:
    return [Detection([] if i in without else [face(box)], i in cuts) for i in range(count)]


@pytest.mark.parametrize(
    ("detections", "tracks"),
    [
        (seen(49), []),
        (seen(50), [(0, 50)]),
        (seen(99, cuts=[49]), [(49, 50)]),
        (seen(50, (0, 0, 100, 100)), []),
        (seen(51, without=[7]), [(0, 51)]),
        (seen(50, without=[7]), []),
        (seen(90, without=range(20, 44)), [(0, 90)]),
        (seen(91, without=range(20, 45)), []),
        (seen(95, without=range(20, 45)), [(45, 50)]),
    ],
    ids=["49", "50", "cut", "100 pixels", "51 less 1", "50 less 1", "step 25", "step 26", "after step 26"],
)
def test_faces_are_followed_for_50_detections_and_more_within_a_shot(detections, tracks):
    assert [(start, len(boxes)) for start, boxes in published.face_tracks(detections)] == tracks


def test_two_faces_are_two_tracks_and_gaps_are_straight_lines():
    detections = []
    for i in range(60):
        two = [face((2 * i, 0, 2 * i + 120, 150)), face((600, 0, 750 - i, 150))]
        detections.append(Detection([] if i == 30 else two[:: 1 if i % 2 else -1]))
    boxes = {b[0, 0]: b for _, b in published.face_tracks(detections)}
    assert sorted(boxes) == [0, 600] and boxes[0][30].tolist() == [60, 0, 180, 150] and boxes[600][59, 2] == 691
    jump = [Detection([face((0, 0, 120, 120) if i < 50 else (60, 0, 180, 120))]) for i in range(100)]
    assert [start for start, _ in published.face_tracks(jump)] == [0, 50]  # they overlap by a third


@pytest.mark.parametrize("late", [(2, 5), (-3, 0), (4, 4)])
def test_sync_is_the_mean_over_the_tracks(late):
    places = [(40.0, 30, 150, 140), (200.0, 30, 310, 140)]
    shots = pictures()[:, :1, :1].repeat(2, 1, 1, 1).expand(-1, 260, 400, -1)
    wave = torch.from_numpy(np.concatenate([sound(n) for n in late]).astype(np.float32) / 32768)
    alone = []
    for k, box in enumerate(places):
        part, heard = slice(k * FRAMES, (k + 1) * FRAMES), wave[k * FRAMES * 640 : (k + 1) * FRAMES * 640]
        alone.append(syncnet_v2(Flicker(), shots[part], np.array([box] * FRAMES), heard, 25.0))
    one_face = (lambda frame, i: [face(places[i // FRAMES])], wave, no_progress)
    found = published.sync_of_video(Flicker(), shots, 25.0, *one_face)
    for name in ("sync_c", "sync_d"):
        assert found[name].value == pytest.approx(np.mean([one[name].value for one in alone]))
    assert found["sync_offset"].value == int(-sum(late) / 2)
    with pytest.raises(ValueError, match="no face of over 100 pixels is found 50 times within one shot"):
        published.sync_of_video(Flicker(), shots[:49], 25.0, *one_face)


class Told:
    """In the place of the clips: frames that say whether they are in sync."""

    def __init__(self, data, vae, seed, progress):
        self.clips, self.asked = [None] * 3, []
        Told.last = self

    def __getitem__(self, n):
        self.asked.append(n)
        target = torch.tensor(float(n % 2 == 0))
        return {"frames": target.expand(48, 2, 4), "mel": torch.zeros(1, 80, 52), "target": target}


class Judge(torch.nn.Module):
    """Cosines by what the frames say: (of those out of sync, of those in sync)."""

    config = SimpleNamespace(frames=16)

    def __init__(self, *cosines):
        super().__init__()
        self.cosines = torch.nn.Parameter(torch.tensor(cosines))

    def forward(self, frames, mel):
        cosine = self.cosines[frames[:, 0, 0, 0].long()]
        return torch.stack([cosine, (1 - cosine**2).sqrt()], dim=1), torch.tensor([[1.0, 0.0]]).expand(len(mel), -1)


@pytest.mark.parametrize(
    ("cosines", "accuracy"), [((0.2, 0.8), 1), ((0.8, 0.2), 0), ((0.9, 0.9), 0.5), ((0.45, 0.55), 1), ((0.1, 0.4), 0.5)]
)
def test_accuracy_is_the_share_on_the_right_side_of_a_half(cosines, accuracy, monkeypatch):
    monkeypatch.setattr("latentsync.train.syncnet.SyncNetClips", Told)
    assert syncnet_accuracy(SyncScorer(Judge(*cosines)), None, Path("clips"), 40, no_progress) == accuracy
    assert sorted(Told.last.asked) == list(range(40))


@packaged
def test_the_command_finds_the_embedded_syncnet_accurate(tmp_path, capsys):
    write_corpus(tmp_path / "clips", CorpusSettings(2, 2.0, resolution=128))
    what = ["--metric", "syncnet_accuracy", "--syncnet", EMBEDDED / "stable_syncnet.safetensors"]
    code, out, _ = run(capsys, *what, "--clips", tmp_path / "clips", "--samples", 40)
    assert code == 0 and "over 40 samples" in out and "Pictures compared" not in out
    assert float(out.split("| **all** | - | ")[1].split(" ")[0]) > 0.8
    for wrong, sentence in (
        (what, "syncnet_accuracy needs --clips"),
        ([*what, "--clips", tmp_path / "none"], "there is no folder or list of clips"),
        ([*what, "--clips", tmp_path / "clips", "--samples", 0], "samples is 0"),
        ([*what[:2], "--clips", tmp_path, "--syncnet", "none.pt"], "there is no SyncNet none.pt"),
        (["--metric", "psnr"], "there is no video to measure: give --video_path"),
    ):
        code, _, err = run(capsys, *wrong)
        assert code == 2 and sentence in err
