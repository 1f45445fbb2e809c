"""The data pipeline from raw videos to clips: what comes out, what the manifest says, and what is done twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raw_videos import SETTINGS, SIZE, again, clips_of, read_manifest, write_track, write_video
from real_clips import media_file

from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.corpus import align_clip
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.prepare.executor import InProcess, perform
from latentsync.prepare.manifest import MANIFEST, Item
from latentsync.prepare.pipeline import judge, prepare
from latentsync.prepare.settings import PrepareSettings, Tools
from latentsync.prepare.sources import Source

FATES = {
    ("broken.mp4", "read", "broken"),
    ("faceless.mp4", "align", "no_face"),
    ("good.mp4", "clip", None),
    ("more/cut.mp4", "clip", None),
    ("more/cut.mp4", "segments", "too_short"),
    ("mute.mp4", "read", "no_audio"),
    ("silent.mp4", "read", "silent"),
}


def copied(made, tmp_path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "data", copy_function=shutil.copy2))


def test_the_manifest_names_each_fate(made):
    out, report = made
    lines = read_manifest(out)
    assert {(line["source"], line["stage"], line["reason"]) for line in lines} == FATES
    kept = [line for line in lines if line["fate"] == "kept"]
    assert [line["seconds"] for line in kept] == [[0.0, 1.6], [1.6, 3.2], [0.0, 1.4]]
    assert sorted(clips_of(out)) == sorted(Path(line["clip"]).name for line in kept) and report.clips == 3
    for line in lines:
        assert (line["clip"] is None) == bool(line["sentence"]) == (line["fate"] == "dropped")
    sentences = {line["reason"]: line["sentence"] for line in lines}
    assert sentences["no_face"] == "no face at 0.80 s" and sentences["broken"].startswith("broken.mp4 ")
    assert str(out.parent) not in (out / MANIFEST).read_text() and "/raw/" not in (out / MANIFEST).read_text()
    assert not (out / "work").exists()
    rows = {row.stage: row for row in report.rows}
    assert list(rows) == ["read", "cuts", "segments", "align", "clip"]
    assert (rows["read"].entered, rows["read"].left) == (6, 3)
    assert dict(rows["read"].dropped) == {"broken": 1, "no_audio": 1, "silent": 1}
    assert rows["clip"].left == 3 and rows["clip"].worked == 3
    assert "1 broken, 1 no_audio, 1 silent" in str(report) and "3 clips" in str(report)


def test_clips_hold_the_crops_and_the_very_sound_of_their_time(made, raw):
    out, _ = made
    second = next(line for line in read_manifest(out) if line["source"] == "good.mp4" and line["seconds"][0] == 1.6)
    drawn = make_clip(1, 3.2, SIZE)
    with VideoReader(out / second["clip"]) as clip:
        assert (len(clip), clip.fps, clip.height, clip.width) == (40, 25, 64, 64)
        expected = align_clip(drawn, 64)[40:]
        assert (clip[range(40)] / 255 - expected).abs().mean() < 0.03
    sound, rate = read_audio(out / second["clip"])
    source, _ = read_audio(raw[0] / "good.mp4")  # AAC at 16 kHz mono
    assert rate == 16000 and sound.shape == (1, 40 * 640)
    assert (sound[0] - source[0, 25600:51200]).abs().max() <= 2 / 32768


def test_a_new_source_is_the_only_work(made, raw, tmp_path):
    out = copied(made, tmp_path)
    before = read_manifest(out)
    assert again(raw, out) == []
    new = make_clip(7, 1.0, SIZE)
    folder = Path(shutil.copytree(raw[0], tmp_path / "raw", copy_function=shutil.copy2))
    tracks = Path(shutil.copytree(raw[1].detector_model, tmp_path / "tracks", copy_function=shutil.copy2))
    write_video(folder / "new.mp4", [new])
    write_track(tracks / "new.json", [new])
    done = again((folder, Tools("file", tracks)), out)
    assert done == [("read", "new.mp4"), ("cuts", "new.mp4"), ("align", "new.mp4@0-25"), ("clip", "new.mp4@0-25")]
    assert [line for line in read_manifest(out) if line["source"] != "new.mp4"] == before
    # Left out again, its clip stays, but the manifest does not name it.
    videos = folder / "list.txt"
    videos.write_text("# all but the new one\n" + "\n".join(sorted({line["source"] for line in before})))
    assert again((videos, Tools("file", tracks)), out) == [] and read_manifest(out) == before
    assert len(clips_of(out)) == 4
    # A video that has changed goes through everything, and its old clips go.
    write_video(folder / "good.mp4", [new])
    write_track(tracks / "good.json", [new])
    done = again((folder, Tools("file", tracks)), out)
    assert {item for _, item in done} == {"good.mp4", "good.mp4@0-25"} and len(clips_of(out)) == 3


def test_changed_settings_redo_what_depends_on_them(made, raw, tmp_path):
    out = copied(made, tmp_path)
    # Another length of clips: the sources are not read for cuts again, and the clip of the same frames stays.
    done = again(raw, out, replace(SETTINGS, min_seconds=1.5, max_seconds=4))
    assert [job for job in done if job[0] != "read"] == [("align", "good.mp4@0-80"), ("clip", "good.mp4@0-80")]
    assert len(clips_of(out)) == 1 and [line["reason"] for line in read_manifest(out)].count("too_short") == 3
    # Another resolution: shots are known, every segment is aligned anew. The file names are the same.
    large = replace(SETTINGS, resolution=128)
    done = again(raw, out, large)
    assert {stage for stage, _ in done} == {"read", "align", "clip"}
    with VideoReader(out / read_manifest(out)[2]["clip"]) as clip:
        assert clip.width == 128
    # A limit on what has been measured takes no work, and its removal none but for the clip that it removed.
    assert again(raw, out, replace(large, also={"face_size"})) == []
    assert [line["reason"] for line in read_manifest(out)].count("small_face") == 3 and not clips_of(out)
    assert again(raw, out, large) != [] and len(clips_of(out)) == 3


def test_what_was_interrupted_with_other_settings_is_not_taken_for_ours(made, raw, tmp_path):
    out = copied(made, tmp_path)

    class Dying(InProcess):
        """Dies when a clip has been written and before that has been noted."""

        def results(self, jobs):
            for job in jobs:
                outcome = perform(job)
                if job.stage == "clip":
                    raise KeyboardInterrupt
                yield job, outcome

    with pytest.raises(KeyboardInterrupt):
        prepare(raw[0], out, replace(SETTINGS, resolution=128), raw[1], executor=Dying())
    again(raw, out)
    assert clips_of(out) == clips_of(made[0])


def test_a_folder_serves_one_run_at_a_time(made, raw):
    def intrude(stage, done, total):
        prepare(raw[0], made[0], SETTINGS, raw[1])

    with pytest.raises(ValueError, match="another run .*is at work"):
        prepare(raw[0], made[0], SETTINGS, raw[1], progress=intrude)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip": {"align"}}, "'align': choose from cuts, sync, quality"),
        ({"also": {"beauty"}}, "'beauty': choose from face_size"),
        ({"max_seconds": 1.5}, "1 to 1.5 s"),
        ({"max_offset": 16}, "give 0 to 15"),
        ({"skip": {"sync"}}, "--skip quality, or choose a larger"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


def test_missing_files_are_told_before_any_work(raw, tmp_path):
    out = tmp_path / "out"
    full = replace(SETTINGS, resolution=256, skip=())
    message = "syncnet_v2.model and .*koniq_pretrained.pkl .*download --only auxiliary .*--skip sync,quality"
    with pytest.raises(ValueError, match=message):
        prepare(raw[0], out, full, replace(raw[1], checkpoints=tmp_path))
    for videos, output, model, message in [
        (raw[0], out, tmp_path, "no track file"),
        (raw[0], out, tmp_path / "face.json", "folder of track files"),
        (raw[0], raw[0] / "out", raw[1].detector_model, "lies in the input folder"),
        (raw[1].detector_model, out, raw[1].detector_model, "no videos in"),
        (tmp_path / "nothing", out, raw[1].detector_model, "no folder or list"),
    ]:
        with pytest.raises(ValueError, match=message):
            prepare(videos, output, SETTINGS, Tools("file", model))
    assert not out.exists()


@pytest.mark.parametrize(
    "stage, kept, dropped, reason",
    [
        ("face_size", {"face_size": 64}, {"face_size": 63.9}, "small_face"),
        ("sync", {"confidence": 3, "offset": -6}, {"confidence": 2.99, "offset": 0}, "low_confidence"),
        ("sync", {"confidence": 3, "offset": 6}, {"confidence": 3, "offset": -7}, "offset"),
        ("quality", {"quality": 40}, {"quality": 39.9}, "low_quality"),
    ],
)
def test_limits_are_kept_and_what_is_past_them_is_dropped(stage, kept, dropped, reason):
    settings, source = replace(SETTINGS, also={"face_size"}), Source("a.mp4", Path("a.mp4"))
    assert judge(stage, Item(source, figures=kept), settings) is None
    assert judge(stage, Item(source, figures=dropped), settings)[0] == reason


def test_what_cannot_be_read_today_is_tried_again(tmp_path):
    new = make_clip(7, 1.0, SIZE)
    videos, tools = tmp_path / "list.txt", Tools("file", tmp_path)
    videos.write_text("later.mp4\n")
    write_track(tmp_path / "later.json", [new])
    prepare(videos, tmp_path / "data", SETTINGS, tools)
    (line,) = read_manifest(tmp_path / "data")
    assert line["reason"] == "unreadable" and "No such file" in line["sentence"] and line["seconds"] is None
    write_video(tmp_path / "later.mp4", [new])
    prepare(videos, tmp_path / "data", SETTINGS, tools)
    assert read_manifest(tmp_path / "data")[0]["fate"] == "kept"


def test_real_faces_are_found_by_yunet(tmp_path):
    model = media_file("face_detection_yunet.onnx")
    raw = tmp_path / "raw"
    raw.mkdir()
    sound, rate = read_audio(media_file("demo1_audio.wav"))
    with VideoReader(media_file("demo3_video.mp4")) as source:  # 30 frames/s
        shape, audio = (source.height, source.width), media_file("demo1_audio.wav")
        with VideoWriter(raw / "real.mkv", source.fps, *shape, preset="ultrafast", audio=audio) as writer:
            writer.write(source[range(30)])
    settings = PrepareSettings(min_seconds=1, max_seconds=2, skip={"sync", "quality"})
    prepare(raw, tmp_path / "data", settings, Tools("yunet", model))
    (line,) = read_manifest(tmp_path / "data")
    assert line["fate"] == "kept" and line["seconds"] == [0.0, 1.0] and line["figures"]["face_size"] > 100
    with VideoReader(tmp_path / "data" / line["clip"]) as clip:
        crop = clip[[15]][0].numpy()
    assert crop.shape == (256, 256, 3) and crop[64:192, 64:192].std() > 20
    heard, _ = read_audio(tmp_path / "data" / line["clip"])
    assert rate == 16000 and np.corrcoef(heard[0], sound[0, : 25 * 640])[0, 1] > 0.999
