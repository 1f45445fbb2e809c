"""Several people in one run."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import tiny
import torch
from drawn_clips import box_at, picture
from media_clips import encode_audio, read_all, tone

from latentsync import threads
from latentsync.face.align import AlignedFaces
from latentsync.face.blend import blend
from latentsync.face.landmarks import Detection, Face, points_from_box
from latentsync.face.track_file import FaceFile, write_track_file
from latentsync.media import VideoWriter, read_audio
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync, lip_sync_frames, listen, stacked, tracks_or_resume
from latentsync.pipelines.speakers import Person, Speaker, parse_speaker, people_of
from latentsync.progress import no_progress
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.sampling.sample import sync
from latentsync.settings import EncodingSettings, RestoreSettings, RunSettings, Settings, TrackSettings

FRAMES, APART, RATE = 40, 240, 16_000
FAST = RunSettings(sync=Settings(steps=1, window=8, guidance=1.0), encoding=EncodingSettings(crf=0))
STEADY = SuperRes(Sharpen(), RestoreSettings(batch=3), 1.0)


def moved(box, x, y=0.0):
    return Face((b := (box[0] + x, box[1] + y, box[2] + x, box[3] + y)), 0.9, points_from_box(b))


class Two:
    """A detector that knows both heads; the one on the right is away for a while."""

    def __init__(self, x=APART, y=0.0):
        self.x, self.y, self.seen = x, y, []

    def __call__(self, frame, index):
        self.seen.append(index)
        right = [] if 9 < index < 27 else [moved(box_at(index + 13 * (self.x == APART)), self.x, self.y)]
        return [moved(box_at(index), 0.0), *right]


@pytest.fixture(scope="module")
def frames():
    """Two heads side by side, in other colours."""
    sides = ([picture(i), 255 - picture(i + 13)] for i in range(FRAMES))
    return torch.from_numpy(np.stack([np.concatenate(pair, axis=1) for pair in sides]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture(scope="module")
def waves():
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(round(seconds * RATE), generator=generator) - 0.5 for seconds in (1.6, 1.1)]


def people(*faces, detector=None):
    detector = detector or Two()
    return [
        Person(detector, TrackSettings(which=face), None, f"speaker {k}, {face}") for k, face in enumerate(faces, 1)
    ]


def rendered(frames, wave, model, who, settings=FAST, track=None, progress=no_progress, masks=None):
    result = lip_sync_frames(LipSyncInput(frames, 25.0, wave, masks), model, who, settings, progress, track)
    return torch.cat([window.pictures for window in result.windows()])


@pytest.mark.parametrize(
    "changes, seconds, hand",
    [
        ({"sync": replace(FAST.sync, overlap=3), "audio_longer": "pingpong"}, 2.4, False),
        ({"superres": STEADY, "audio_shorter": "silent"}, 0.7, False),
        ({}, 1.6, True),
    ],
    ids=["overlap, pingpong", "superres, silent", "hand"],
)
def test_it_is_one_run_after_the_other_without_the_encoding_between(
    frames, model, waves, monkeypatch, changes, seconds, hand
):
    settings, both = replace(FAST, **changes), stacked([waves[0].repeat(2)[: round(seconds * RATE)], waves[1][:9000]])
    who = people("index:0", "nearest:360,90")
    masks = torch.zeros(frames.shape[:3])
    masks[20:, 90:120, 100:400] = 1
    made = rendered(frames, both, model, who, settings, masks=masks if hand else None)
    order = LipSyncInput(frames, 25.0, both).order(settings)
    alone, after = frames[order], replace(settings, audio_longer="stop", audio_shorter="stop")
    tracks = tracks_or_resume(frames[: max(order) + 1], 25.0, who, 64, settings, no_progress)
    whole = torch.nn.functional.pad(both, (0, max(0, round(len(order) / 25 * RATE) - both.shape[1])))
    for wave, track in zip(whole, tracks, strict=True):
        given = {"track": track.take(order), "masks": masks[order] if hand else None}
        alone = rendered(alone, wave, model, Two(), after, **given)
    assert torch.equal(made, alone)
    assert all((made[:, :, side] != frames[order][:, :, side]).any() for side in (slice(APART), slice(APART, None)))
    monkeypatch.setattr(threads, "THREADED", False)
    assert torch.equal(rendered(frames, both, model, who, settings, masks=masks if hand else None), made)


def test_where_crops_overlap_the_later_mouth_lies_over_the_earlier_and_neither_net_sees_the_other(frames, model, waves):
    both, near = stacked(waves), Two(20.0, 12.0)
    who = people("index:0", "index:1", detector=near)
    first = rendered(frames, both[0], model, who[:1])
    made, reverse = rendered(frames, both, model, who), rendered(frames, both.flip(0), model, who[::-1])
    track = tracks_or_resume(frames, 25.0, who, 64, FAST, no_progress)[1]
    crops = AlignedFaces(frames, track.matrices, track.found, 64)
    features = listen(model.audio_encoder, both[1], 25.0, FRAMES)
    synced = torch.cat(list(sync(model, crops, features, FAST.sync, track.runs)))
    assert torch.equal(made, torch.cat(list(blend(first, track, [synced], FAST.blend))))
    assert ((made != first) & (first != frames)).any() and not torch.equal(made, reverse)
    words = r"speaker 1, index:0 and speaker 2, nearest:0,0 are the same person \(in frame 0\)"
    with pytest.raises(ValueError, match=words):
        rendered(frames, both, model, people("index:0", "nearest:0,0"))


def test_faces_are_looked_for_once_and_each_step_counts(frames, model, waves):
    detector, told = Two(), []
    who = people("index:0", "index:1", detector=detector)
    settings = replace(FAST, sync=replace(FAST.sync, steps=2))
    rendered(frames, stacked(waves), model, who, settings, progress=lambda *state: told.append(state))
    assert detector.seen == list(range(FRAMES))
    assert [phase for phase, *_ in told if "listening" in phase] == [f"listening to {person.name}" for person in who]
    done = [done for phase, done, _ in told if phase == "syncing"]
    assert done == sorted(done) and done[:5] == [0, 2, 4, 6, 8] and done[-1] == FRAMES


@pytest.fixture
def folder(tmp_path, frames):
    with VideoWriter(tmp_path / "clip.mp4", 25, *frames.shape[1:3], crf=0, preset="ultrafast") as writer:
        writer.write(frames)
    for name, seconds in (("a", 1.6), ("b", 0.9)):
        encode_audio(tmp_path / f"{name}.wav", "pcm_s16le", 0.4 * tone(seconds, RATE), RATE)
    return tmp_path


def run(folder, model, audio, out="out.mp4", settings=FAST, detector=None, **how):
    lip_sync(folder / "clip.mp4", audio, folder / out, model, detector or Two(), settings, **how)
    return read_all(folder / out)


def test_a_file_has_both_voices_and_is_as_long_as_the_longer(folder, model):
    speakers = [Speaker("index:0", folder / "b.wav"), Speaker("index:1", folder / "a.wav")]
    made = run(folder, model, speakers)
    wave, rate = read_audio(folder / "out.mp4")
    voices = [read_audio(folder / f"{name}.wav")[0][0].numpy() for name in "ab"]
    mix = voices[0] + np.pad(voices[1], (0, len(voices[0]) - len(voices[1])))
    heard = wave[0, : len(mix)].numpy()
    assert rate == RATE and len(made) == FRAMES and np.corrcoef(heard, mix)[0, 1] > 0.99
    assert not list(folder.glob("*.part*"))

    def interrupted(phase, done, total):
        if phase == "syncing" and done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="goes on from frame 16"):
        run(folder, model, speakers, "again.mp4", resume=True, progress=interrupted)
    with pytest.raises(ValueError, match="was made with another speakers"):
        run(folder, model, [replace(speakers[0], face="nearest:0,0"), speakers[1]], "again.mp4", resume=True)
    assert torch.equal(run(folder, model, speakers, "again.mp4", resume=True), made)
    assert not list(folder.glob("*.parts"))


def test_one_speaker_is_the_run_of_one_face(folder, model):
    one = run(folder, model, [Speaker("index:1", folder / "b.wav")])
    settings = replace(FAST, track=TrackSettings(which="index:1"))
    assert torch.equal(run(folder, model, folder / "b.wav", "other.mp4", settings), one)
    assert (folder / "out.mp4").read_bytes() == (folder / "other.mp4").read_bytes()


def test_a_person_is_found_by_a_picture_or_a_track_file(folder, frames):
    class Anyone(Two):
        def __call__(self, frame, index):
            return [moved(box_at(13), 0.0)] if frame.shape[1] == APART else super().__call__(frame, index)[::-1]

    assert cv2.imwrite(str(folder / "ann.png"), 255 - picture(13)[..., ::-1])
    right = [Detection([moved(box_at(i + 13), APART)]) for i in range(FRAMES)]
    write_track_file(folder / "ann.json", right, 2 * APART, 180, 25.0)
    texts = f"index:1=a.wav {folder}/ann.png=a.wav {folder}/ann.json=a.wav index:0=b=c.wav".split()
    speakers = [parse_speaker(text) for text in texts]
    assert speakers[3] == Speaker("index:0", "b=c.wav")
    who = people_of(speakers, Anyone(), TrackSettings(max_gap=0))
    assert isinstance(who[2].detector, FaceFile) and who[1].name == f"speaker 2, {folder}/ann.png"

    def track(one):
        return tracks_or_resume(frames, 25.0, [one], 64, FAST, no_progress)[0]

    by_place, by_looks, by_file, left = map(track, who)
    assert by_place.found.sum() == FRAMES - 17 and np.array_equal(by_looks.matrices, by_place.matrices)
    assert by_file.found.all() and np.allclose(by_file.matrices[:5], by_place.matrices[:5], atol=0.05)
    assert left.found.all() and not np.allclose(left.matrices[0], by_place.matrices[0], atol=1)


@pytest.mark.parametrize(
    "texts, words",
    [
        (["index:0"], "speaker is 'index:0': give FACE=AUDIO"),
        (["=a.wav"], "speaker is '=a.wav'"),
        (["index:0=a.wav", "index:1=no.wav"], "speaker 2 has no audio .*no.wav: check the path"),
        (["index:0=a.wav", "ann.jpg=b.wav"], "speaker 2 is 'ann.jpg', and there is no such file: give largest"),
        (["index:0=a.wav", "index:0=b.wav"], "speakers 1 and 2 are both index:0: give each one a face"),
        (["index:0=a.wav", "index:7=b.wav"], r"shows the face asked for \(speaker 2, index:7\)"),
        (["index:0=a.wav", "index:1=clip.mp4"], "clip.mp4 .*audio"),
        (["index:0=a.wav", "PICTURE=b.wav"], "wall.png: no face is found in the picture"),
    ],
)
def test_what_is_wrong_is_said(folder, model, texts, words):
    class Blind(Two):
        def __call__(self, frame, index):
            return super().__call__(frame, index) if frame.shape[1] > 8 else []

    cv2.imwrite(str(folder / "wall.png"), np.zeros((8, 8, 3), np.uint8))
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=words):
        speakers = [parse_speaker(text.replace("PICTURE", str(folder / "wall.png"))) for text in texts]
        run(folder, model, [replace(who, audio=folder / who.audio) for who in speakers], detector=Blind())
    assert sorted(folder.iterdir()) == before
