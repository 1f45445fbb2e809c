"""The command line: what it takes, and for what it does not: one sentence, exit code 2 and nothing left behind."""

import json
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from drawn_clips import make_clip
from media_clips import encode_audio, tone
from safetensors.torch import load_file

from latentsync import __version__
from latentsync.commands.main import build_parser, main
from latentsync.errors import InputError
from latentsync.face.track_file import read_track_file
from latentsync.media import VideoReader
from latentsync.pipelines.lip_sync import Summary
from latentsync.pipelines.options import run_settings
from latentsync.settings import Settings

ROOT = Path(__file__).parents[2]
FINISHED = Summary(Path("out.mp4"), 12, 12, 25.0, 0.0)
QUICK = ["--inference_steps", "1", "--guidance_scale", "1", "--window", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tiny.make_checkpoints(tmp_path_factory.mktemp("weights") / "checkpoints", resolution=64)


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path, frames=12, seconds=0.48)


def arguments(clip, weights, **changes):
    """Of a quick `run`; an option of the value None has none."""
    given = {"video_path": clip.video, "audio_path": clip.audio, "video_out_path": clip.video.with_name("out.mp4")}
    given |= {"checkpoints": weights, "detector": "file", "detector_model": clip.track} | changes
    return ["run", *QUICK, *(f"--{key}" + f"={value}" * (value is not None) for key, value in given.items())]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(capsys, folder: Path, argv) -> str:
    """The sentence with which the command is refused."""
    before = everything(folder)
    assert main([str(a) for a in argv]) == 2
    assert everything(folder) == before
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("latentsync: error:")]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    return lines[0].removeprefix("latentsync: error: ")


def test_run_writes_the_video_and_says_what_it_did(clip, checkpoints, capsys):
    assert main(arguments(clip, checkpoints)) == 0
    out = capsys.readouterr()
    assert "12 frames at 25 fps, the face in 12" in out.out
    assert "looking for the face" in out.err and "syncing" in out.err and "12/12" in out.err
    with VideoReader(clip.video.with_name("out.mp4")) as reader:
        assert len(reader) == 12


def test_run_takes_several_speakers(clip, checkpoints, capsys, tmp_path):
    """Those with track files need no detector."""
    both = [f"--speaker={face}={clip.audio}" for face in (clip.track, clip.track.with_name("other.json"))]
    shifted = re.sub(r'("box": \[)(\S+),', lambda m: f"{m[1]}{float(m[2]) - 60:.3f},", clip.track.read_text())
    clip.track.with_name("other.json").write_text(re.sub(r'"points": \[\[.*?\]\], ', "", shifted))
    plain = arguments(clip, checkpoints, audio_path="x")
    argv = [a for a in plain if not a.startswith(("--audio_path", "--detector"))]
    assert main([*argv, *both]) == 0 and "the face in 12" in capsys.readouterr().out
    clip.video.with_name("out.mp4").unlink()
    for more, words in (
        ([], "there is no voice: give --audio_path, or --speaker FACE=AUDIO for each person"),
        ([both[0], "--audio_path=a.wav"], "who says what is given twice"),
        (["--speaker=x"], "speaker is 'x': give FACE=AUDIO"),
        ([f"--speaker=index:0={clip.audio}", "--face=similar"], "face is similar and changes nothing beside --speaker"),
    ):
        assert words in refused(capsys, tmp_path, [*argv, *more])


def test_hyphens_work_too(clip, checkpoints):
    argv = arguments(clip, checkpoints, mask_smooth=0.2, face="index:0", overlap=2, sampler="euler", crf=20)
    hyphens = [a.replace("_", "-", a.partition("=")[0].count("_")) for a in argv]
    assert any("--video-out-path=" in a for a in hyphens) and main(hyphens) == 0
    assert clip.video.with_name("out.mp4").exists()


@pytest.mark.parametrize("name", ['-a b\'s "clip" 视频 émoji 🎬', "semi;colon && $HOME `x` 100%"])
def test_any_path_works(tmp_path, checkpoints, name):
    folder = tmp_path / name
    folder.mkdir()
    clip = make_clip(folder, frames=4, seconds=0.16)
    assert main(arguments(clip, checkpoints, video_out_path=folder / f"{name}.mp4")) == 0
    assert (folder / f"{name}.mp4").stat().st_size > 1000


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_missing_and_unreadable_files(clip, checkpoints, capsys, tmp_path):
    text = write(tmp_path / "text.mp4", b"this is not a video\n" * 100)
    empty = write(tmp_path / "empty.mp4", b"")
    cut = write(tmp_path / "cut.mp4", clip.video.read_bytes()[:300])
    paths = {"video_path": (tmp_path / "nothing.mp4", text, empty, cut, tmp_path), "audio_path": (text, empty)}
    for key in paths:
        for path in paths[key]:
            sentence = refused(capsys, tmp_path, arguments(clip, checkpoints, **{key: path}))
            assert str(path) in sentence and len(sentence) < 400
    argv = [a for a in arguments(clip, checkpoints) if not a.startswith("--detector_model")]
    assert "name the track file with --detector_model" in refused(capsys, tmp_path, argv)
    assert "no video" in refused(capsys, tmp_path, arguments(clip, checkpoints, video_path=clip.audio))
    assert "no audio" in refused(capsys, tmp_path, arguments(clip, checkpoints, audio_path=clip.video))


def test_audio_without_samples_and_with_hardly_any(clip, checkpoints, capsys, tmp_path):
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    assert "none.wav" in refused(capsys, tmp_path, arguments(clip, checkpoints, audio_path=tmp_path / "none.wav"))
    encode_audio(tmp_path / "short.wav", "pcm_s16le", tone(0.005, 16000), 16000)
    assert main(arguments(clip, checkpoints, audio_path=tmp_path / "short.wav")) == 0
    with VideoReader(clip.video.with_name("out.mp4")) as reader:
        assert len(reader) == 1


def test_wrong_and_missing_checkpoints(clip, checkpoints, capsys, tmp_path):
    sentence = refused(capsys, tmp_path, arguments(clip, tmp_path / "none"))
    assert "unet" in sentence and "python -m latentsync download" in sentence
    folder = tiny.make_checkpoints(tmp_path / "broken", resolution=64)
    unet = folder / "latentsync_unet.pt"
    state = torch.load(unet, weights_only=True)["state_dict"]
    other = {name.replace("conv_out.bias", "conv_out.bias_old"): tensor for name, tensor in state.items()}
    nan = state | {"conv_out.bias": state["conv_out.bias"] * float("nan")}
    for weights, words in ((tiny.weights(tiny.vae()), "VAE"), (other, "conv_out.bias_old"), (nan, "NaN")):
        torch.save({"state_dict": weights}, unet)
        assert words in refused(capsys, tmp_path, arguments(clip, folder))
    unet.write_bytes(b"not a checkpoint at all")
    assert "latentsync_unet.pt" in refused(capsys, tmp_path, arguments(clip, folder))


WRONG = [
    ({"resolution": 100}, "resolution is 100: choose a multiple of 64"),
    ({"inference_steps": 0}, "inference_steps is 0"),
    ({"overlap": 8}, "overlap is 8"),
    ({"mask_smooth": 2}, "mask_smooth is 2"),
    ({"face": "tallest"}, "face is 'tallest'"),
    ({"fps": 0}, "fps is 0"),
    ({"crf": 99}, "crf is 99"),
    ({"detect_every": 0}, "detect_every is 0"),
    ({"device": "warp9"}, "warp9"),
    ({"max_gap": -1}, "max_gap is -1"),
    ({"smoothing": float("nan")}, "smoothing is nan"),
    ({"guidance_scale": "inf"}, "guidance_scale is inf"),
    ({"seed": 10**20}, "seed is 100000000000000000000"),
    ({"fps": 1e9}, "fps is 1000000000.0"),
    ({"superres_strength": 0.5}, "superres_strength changes nothing without --superres"),
    ({"superres_region": "face"}, "superres_region changes nothing without --superres"),
    ({"superres": "sharpen", "superres_fidelity": 1}, "superres_fidelity is CodeFormer's"),
    ({"guidance_end": 0.5}, "change nothing at guidance_scale 1"),
    ({"uncond": "once"}, "guidance_start, guidance_end and uncond change nothing at guidance_scale 1"),
    ({"guidance_scale": -1}, "guidance_scale is -1.0: give 0 or more"),
    ({"checkpoints": "CLIP"}, "clip.mp4 is a file: give the folder"),
    ({"audio_path": "FOLDER"}, "is a folder: give one audio file"),
    ({"unet_config_path": "no/unet.yaml"}, "there is no file no/unet.yaml, nor 256 or 512 in its name"),
    ({"unet_config_path": "stage2_512.yaml", "resolution": 256}, "resolution is 256 and stage2_512.yaml says 512"),
    ({"inference_ckpt_path": "no/unet.pt"}, "there is no U-Net file no/unet.pt"),
    ({"occlusion": "auto"}, "no parsing_parsenet.pth, which finds what is in front of a face: `python -m latentsync"),
    ({"published": None, "fps": 30}, "fps is 30 and --published runs at 25: leave one of them out"),
    ({"published": None, "overlap": 2}, "overlap is 2 and --published has none: leave one out"),
]


@pytest.mark.parametrize("changes, words", WRONG)
def test_options_out_of_range_or_that_cannot_be_meant(clip, checkpoints, capsys, tmp_path, changes, words):
    paths = {"CLIP": clip.video, "FOLDER": tmp_path}
    given = {name: paths.get(value, value) for name, value in changes.items()}
    assert words in refused(capsys, tmp_path, arguments(clip, checkpoints, **given))


def test_output_paths_that_cannot_be(clip, checkpoints, capsys, tmp_path):
    missing = refused(capsys, tmp_path, arguments(clip, checkpoints, video_out_path=tmp_path / "no" / "out.mp4"))
    assert str(tmp_path / "no") in missing and "create its folder" in missing
    (tmp_path / "link.mp4").symlink_to(clip.video)
    for path in (clip.video, tmp_path / "link.mp4"):
        assert "also an input" in refused(capsys, tmp_path, arguments(clip, checkpoints, video_out_path=path))
    assert ".mp4" in refused(capsys, tmp_path, arguments(clip, checkpoints, video_out_path=tmp_path / "out.xyz"))
    assert "not of a folder" in refused(capsys, tmp_path, arguments(clip, checkpoints, video_out_path=tmp_path))


def test_a_full_disk_is_named_and_an_older_result_survives(clip, checkpoints, capsys, tmp_path):
    """A limit on the size of files stands for the disk; mounts need rights that tests do not have everywhere."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = write(clip.video.with_name("out.mp4"), b"an older result")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        assert "out.mp4" in refused(capsys, tmp_path, arguments(clip, checkpoints, video_out_path=out, crf=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_programs_with_one_output_leave_a_whole_file(clip, tmp_path, checkpoints):
    command = [sys.executable, "-m", "latentsync", *arguments(clip, checkpoints)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    with VideoReader(clip.video.with_name("out.mp4")) as reader:
        assert len(reader) == 12 and len(reader[range(12)]) == 12
    assert not list(tmp_path.glob("*.part"))


def test_ctrl_c_leaves_no_half_file(tmp_path, checkpoints):
    clip = make_clip(tmp_path, frames=200, seconds=8)
    before = everything(tmp_path)
    command = [sys.executable, "-m", "latentsync", *arguments(clip, checkpoints)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    seen = ""
    while "syncing" not in seen:
        letter = process.stderr.read(1)
        assert letter, seen
        seen += letter
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in rest and "interrupted" in rest
    assert everything(tmp_path) == before


def test_termination_ends_a_command_as_ctrl_c_does(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("latentsync.models.convert.convert", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main(["convert", "a.pt", "b.safetensors"]) == 130 and signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "\nlatentsync: interrupted; nothing was left behind\n"


def test_track_writes_a_file_that_run_takes(tmp_path, checkpoints, capsys):
    clip = make_clip(tmp_path, frames=30, seconds=1.2)
    argv = ["track", f"--video_path={clip.video}", f"--track_path={tmp_path / 'mine.json'}"]
    argv += ["--detector=file", f"--detector_model={clip.track}", "--detect_every=4"]
    assert main(argv) == 0
    assert "the face is in 30 of 30 frames, 0 cuts; crop jitter" in capsys.readouterr().out
    strip = cv2.imread(str(tmp_path / "mine.png"))
    assert strip.shape[0] > 480 and strip.std() > 20
    written, given = read_track_file(tmp_path / "mine.json"), read_track_file(clip.track)
    blank = np.zeros((180, 240, 3), np.uint8)
    for i in range(30):  # frames between the looked-at ones are on the line between them
        assert np.abs(written(blank, i)[0].points - given(blank, i)[0].points).max() < 1.5
    assert main(arguments(clip, checkpoints, detector_model=tmp_path / "mine.json")) == 0


def test_track_says_why_a_face_is_left_alone_and_run_leaves_it_alone(tmp_path, checkpoints, capsys):
    clip = make_clip(tmp_path, frames=30, seconds=1.2)
    content = json.loads(clip.track.read_text())
    for entry in content["faces"][10:]:
        entry["yaw"] = -70
    clip.track.write_text(json.dumps(content))
    argv = ["track", f"--video_path={clip.video}", f"--track_path={tmp_path / 'mine.json'}"]
    assert main([*argv, "--detector=file", f"--detector_model={clip.track}"]) == 0
    assert "in 30 of 30 frames, left alone in 10-29 (turned 70 degrees), 0 cuts" in capsys.readouterr().out
    faces = json.loads((tmp_path / "mine.json").read_text())["faces"]
    assert [face.get("left_alone") for face in faces] == [None] * 10 + ["turned 70 degrees"] * 20
    assert [face.get("yaw") for face in faces] == [None] * 10 + [-70] * 20
    strips = [cv2.imread(str(tmp_path / "mine.png"))]
    assert main([*argv, "--detector=file", f"--detector_model={clip.track}", "--max_yaw=90"]) == 0
    strips.append(cv2.imread(str(tmp_path / "mine.png")))
    column = strips[0].shape[1] // 6
    differs = [(strips[0] != strips[1])[:, i * column : i * column + 400].any() for i in range(6)]
    assert differs == [False] * 2 + [True] * 4
    assert main(arguments(clip, checkpoints, detector_model=tmp_path / "mine.json")) == 0
    assert "the face in 30, left alone in 20" in capsys.readouterr().out


def test_track_writes_nothing_without_a_face_nor_over_what_it_reads(tmp_path, capsys):
    clip = make_clip(tmp_path, frames=5, without_face=range(5))
    (tmp_path / "link.json").symlink_to(clip.video)
    found = ["track", f"--video_path={clip.video}", "--detector=file", f"--detector_model={clip.track}"]
    for name, words in (
        ("clip.mp4", "must end in .json"),
        ("x.png", "must end in .json"),
        ("link.json", "also an input"),
        (clip.track.name, "also an input"),
        ("mine.json", "no frame of the clip's 5"),
    ):
        assert words in refused(capsys, tmp_path, [*found, f"--track_path={tmp_path / name}"])


def test_track_with_any_choice_of_face(tmp_path, capsys):
    clip = make_clip(tmp_path, frames=20)
    argv = ["track", f"--video_path={clip.video}", f"--track_path={tmp_path / 'mine.json'}", "--detect_every=3"]
    for face in ("index:0", "similar", "nearest:120,90"):
        assert main([*argv, "--detector=file", f"--detector_model={clip.track}", f"--face={face}"]) == 0
        assert "the face is in 20 of 20 frames" in capsys.readouterr().out


def test_convert_writes_safetensors_and_with_debug_shows_where_an_error_came_from(checkpoints, tmp_path, capsys):
    out = str(tmp_path / "unet.safetensors")
    assert main(["convert", str(checkpoints / "latentsync_unet.pt"), out, "--half"]) == 0
    assert out in capsys.readouterr().out and load_file(out)["conv_in.weight"].dtype == torch.float16
    with pytest.raises(InputError):
        main(["convert", str(tmp_path / "none.pt"), str(tmp_path / "x.safetensors"), "--debug"])


def test_download_lists_files_with_their_licences(capsys):
    assert main(["download", "--list"]) == 0
    out = capsys.readouterr().out
    assert "latentsync_unet.pt (1.6)" in out
    assert [line for line in out.splitlines() if "codeformer" in line][0].endswith("NOT for commercial use")


def test_download_offline_says_where_to_put_the_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["download", f"--checkpoints={tmp_path}", "--only", "whisper,vae"]) == 2
    assert "127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, words",
    [
        (InputError("the value is 3: give 2"), "latentsync: error: the value is 3: give 2\n"),
        (MemoryError("8 TiB"), "error: there is not enough memory (8 TiB): try --window 8"),
        (MemoryError(), "error: there is not enough memory (MemoryError): try --window 8"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "there is not enough memory (CUDA out of memory.): try"),
        (KeyError("a bug"), "this is a bug: please report the command and all that follows\n"),
        (OSError(5, "Input/output error"), "this is a bug"),
        (RuntimeError("shapes differ"), "this is a bug"),
    ],
)
def test_only_bad_input_and_full_memory_are_told_in_a_sentence(monkeypatch, capsys, error, words):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("latentsync.models.convert.convert", fails)
    if "bug" in words:
        with pytest.raises(type(error)):
            main(["convert", "a.pt", "b.safetensors"])
    else:
        assert main(["convert", "a.pt", "b.safetensors"]) == 2
    assert words in capsys.readouterr().err


def test_the_help_tells_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    assert "--mask_smooth" in text and "(default: 0.5)" in text and "default: None" not in text


@pytest.mark.parametrize(
    "argv, words",
    [
        (["rnu"], "there is no command rnu: did you mean run?"),
        (["--verbose", "run"], "there is no option --verbose: did you mean --version?"),
        (["run", "--xyzzy"], "there is no option --xyzzy"),
        (["batch", "--jobs", "a.csv"], "there is no option --jobs"),
        (["run", "--video-pth", "a.mp4"], "there is no option --video_pth: did you mean --video_path?"),
        (["run", "--gidance_scale=2"], "there is no option --gidance_scale: did you mean --guidance_scale?"),
        (["run", "-video_path", "a.mp4"], "there is no option -video_path: did you mean --video_path?"),
        (["train", "unet", "--confg", "stage2", "run.seed=1"], "did you mean --config?"),
        (["run", "a.mp4", *"--video_path b --audio_path c --video_out_path d".split()], "unexpected: a.mp4"),
        (["track", "--track_path", "a.json"], "the following arguments are required: --video_path"),
    ],
)
def test_what_is_mistyped_is_named_in_two_lines(capsys, argv, words):
    with pytest.raises(SystemExit) as end:
        main(argv)
    error, where = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and error.startswith("latentsync: error: ") and error.endswith(words)
    assert where.startswith("`python -m latentsync") and "--help`" in where


def test_numbers_and_words_with_spaces_are_no_options():
    files = ["--video_path", "-a b.mp4", "--audio_path=-c", "--video_out_path", "d.mp4"]
    given = build_parser().parse_args(["run", *files, "--seed", "-1", "--superres", "gfpgan", "--audio_sh", "silent"])
    assert (given.video_path, given.audio_path, given.seed) == ("-a b.mp4", "-c", -1)
    assert (given.superres, given.audio_shorter) == ("GFPGAN", "silent")
    assert build_parser().parse_args(["run", *files, "--enable_deepcache"]).deep_cache == 3


def test_no_arguments_give_the_help_and_the_version_is_told(capsys):
    assert main([]) == 2 and "make a video speak" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"latentsync {__version__}\n"


def test_errors_of_the_system_are_told_without_their_number(capsys, tmp_path):
    (tmp_path / "data").write_text("a file")
    sentence = refused(capsys, tmp_path, ["prepare", "--synthetic=1", f"--output_dir={tmp_path / 'data'}"])
    assert sentence.startswith(f"cannot write {tmp_path / 'data'}") and "[Errno" not in sentence


def test_the_published_names_choose_model_and_resolution(clip, checkpoints, monkeypatch, tmp_path, caplog, capsys):
    models = []
    monkeypatch.setattr(
        "latentsync.pipelines.lip_sync.lip_sync", lambda *given, **_: models.append(given[3]) or FINISHED
    )
    config = write(tmp_path / "mine.yaml", b"data: {resolution: 128}")
    mine = tmp_path / "mine" / "step_7.pt"
    mine.parent.mkdir()
    mine.write_bytes((checkpoints / "latentsync_unet.pt").read_bytes())
    plain = [a for a in arguments(clip, checkpoints) if not a.startswith("--checkpoints")]
    names = [f"--unet_config_path={config}", "--temp_dir=temp"]
    with caplog.at_level("INFO"):
        assert main([*plain, *names, f"--inference_ckpt_path={checkpoints / 'latentsync_unet.pt'}"]) == 0
        mine_too = [f"--checkpoints={checkpoints}", f"--inference_ckpt_path={mine}", "--resolution=64"]
        assert main([*plain, *mine_too, "--compile"]) == 0
        assert main([*plain, f"--inference_ckpt_path={mine}"]) == 2
    words = f"{mine.parent} lacks whisper, vae: name the folder that has them with --checkpoints"
    assert words in capsys.readouterr().err
    beside = checkpoints / "latentsync_unet.pt"
    assert [(model.source, model.resolution) for model in models] == [(str(beside), 128), (str(mine), 64)]
    assert ["forward" in vars(model.unet) for model in models] == [False, True]  # compiled
    assert "--temp_dir temp is not used" in caplog.text and not Path("temp").exists()


@pytest.mark.parametrize(
    "command, options, ratio",
    [
        ("run", "", None),
        ("run", "--sr_ratio 1.5", 1.5),
        ("run", "--superres SHARPEN", 2),
        ("run", "--superres sharpen --sr_ratio 1", 1),
        ("restore", "--superres sharpen", 2),
        ("restore", "--superres sharpen --sr_ratio 1", 1),
    ],
)
def test_restored_results_are_twice_as_large_unless_another_ratio_is_given(command, options, ratio):
    from latentsync.pipelines.options import load_superres

    files = ["--video_path=a", "--video_out_path=b", *(["--audio_path=c"] if command == "run" else [])]
    found = load_superres(build_parser().parse_args([command, *files, *options.split()]), "cpu")
    assert (None if found is None else found.ratio) == ratio


@pytest.mark.parametrize(
    "name, content, side",
    [
        ("a.yaml", "data: {resolution: 320}", 320),
        ("configs/unet/stage2_512.yaml", None, 512),
        ("configs/unet/stage2.yaml", None, 256),
        ("my_256.yaml", None, 256),
        ("a.yaml", "data: {resolution: wide}", "no whole number at data.resolution"),
        ("a.yaml", "- 512", "no whole number at data.resolution"),
        ("a.yaml", "data: [", "is not YAML"),
        ("a.yaml", "data: !!python/object/apply:os.getcwd []", "no whole number at data.resolution"),
        ("other.yaml", None, "nor 256 or 512 in its name"),
    ],
)
def test_a_published_configuration_tells_the_resolution(tmp_path, name, content, side):
    from latentsync.models.load import published_resolution

    if content:
        write(tmp_path / name, content.encode())
    if isinstance(side, int):
        assert published_resolution(tmp_path / name) == side
    else:
        with pytest.raises(ValueError, match=side):
            published_resolution(tmp_path / name)


def test_a_bar_keeps_its_place_over_notes_and_starts_anew_with_a_phase(capsys):
    from latentsync.progress import Bar

    with Bar(unit="step") as bar:
        for step in range(4, 11):  # goes on from an earlier run
            bar("training", step, 10, f"loss {1 / step:.4f}")
        bar("saving", 0.5, 3)
    said = capsys.readouterr().err
    assert "40%" in said and "10/10" in said and "loss 0.1000" in said and "saving" in said
    assert not re.search(r"-\d+(\.\d+)?(step/s|s/step)", said) and "0.5/3" not in said


def test_choices_on_the_command_line_are_the_library_s():
    from latentsync.face import detect
    from latentsync.pipelines import options

    assert detect.NAMES == options.DETECTORS


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ([], {}),
        (["--quality", "fast"], {"sampler": "dpm++", "steps": 8, "uncond": "once", "deep_cache": 3}),
        (["--inference_steps", "20", "--quality", "Balanced"], {"sampler": "dpm++", "steps": 20, "deep_cache": 2}),
        (["--quality", "fast", "--enable_deepcache", "--uncond", "Each"],
         {"sampler": "dpm++", "steps": 8, "deep_cache": 3}),
        (["--quality", "fast", "--deep_cache", "0", "--sampler", "ddim"], {"steps": 8, "uncond": "once"}),
    ],
)  # fmt: skip
def test_what_is_given_beside_quality_wins(given, changes):
    files = ["--video_path", "v", "--audio_path", "a", "--video_out_path", "o"]
    arguments = build_parser().parse_args(["run", *files, *given])
    assert run_settings(arguments).sync == Settings(**changes)
