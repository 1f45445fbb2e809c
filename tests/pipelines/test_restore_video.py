"""Restoration in a run and of a video that is there: what changes, what must not, at which size."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from drawn_clips import HEIGHT, WIDTH, make_clip
from grain import Grain
from media_clips import packet_bytes
from safetensors.torch import save_file
from test_commands import refused

from latentsync.commands.main import main
from latentsync.evaluate.image_metrics import flicker
from latentsync.face.align import AlignedFaces
from latentsync.face.blend import blend
from latentsync.face.detect import load_detector
from latentsync.face.geometry import apply, crop_matrix, invert
from latentsync.face.masks import face_mask
from latentsync.frames import as_float
from latentsync.media import VideoReader, VideoWriter
from latentsync.media.encoders import HARDWARE
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import (
    LipSyncInput,
    RunSettings,
    lip_sync_frames,
    load_mono_16k,
    track_or_resume,
)
from latentsync.pipelines.restore_video import restore_video
from latentsync.restore.apply import Restoration
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes, blend_restored, rescale_track, restore_frames
from latentsync.restore.upscale import Enlarged, Upscaler, load_upscaler, resized
from latentsync.settings import BlendSettings, RestoreSettings, Settings, TrackSettings

FRAMES = 12
FAST = RunSettings(sync=Settings(steps=1, window=8, guidance=1.0))


class Same:
    name = "same"

    def __call__(self, faces):
        return faces.clone()


STRONG = RestoreSettings(strength=1.0, batch=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path, frames=FRAMES, seconds=FRAMES / 25)


def detector(clip):
    return load_detector("file", model=clip.track)


def quiet(*_):
    pass


def spoken(clip, model, superres=None, frames=None, **settings):
    settings = replace(FAST, superres=superres, **settings)
    with VideoReader(clip.video, cache=4) as reader:
        take = LipSyncInput(reader if frames is None else frames, 25.0, load_mono_16k(clip.audio))
        made = lip_sync_frames(take, model, detector(clip), settings, quiet)
        return torch.cat([window.pictures for window in made.windows()])


def pictures(clip):
    with VideoReader(clip.video) as reader:
        return reader[range(len(reader))]


def tracked(clip, frames, resolution=64):
    return track_or_resume(frames, 25.0, detector(clip), resolution, FAST, quiet)


def difference(a, b):
    return (a.int() - b.int()).abs().float()


# --- in a run ---


def test_strength_0_and_a_restorer_that_changes_nothing_equal_the_run_without_restoration(clip, model):
    plain = spoken(clip, model)
    for superres in (
        SuperRes(),
        SuperRes(Grain(), RestoreSettings(strength=0.0, batch=3)),
        SuperRes(Same(), RestoreSettings(1.0, "face", temporal=1.0)),
    ):
        assert torch.equal(spoken(clip, model, superres), plain)


def test_only_the_chosen_region_changes_and_frames_without_a_face_are_the_source_s(tmp_path, model):
    clip = make_clip(tmp_path, frames=40, seconds=1.6, without_face=range(10, 30))
    plain, source = spoken(clip, model), pictures(clip)
    mouth, face = (spoken(clip, model, SuperRes(Grain(), replace(STRONG, region=r))) for r in ("mouth", "face"))
    with_face = [i for i in range(40) if not 10 <= i < 30]
    for result in (mouth, face):
        assert torch.equal(result[10:30], source[10:30])
        assert all(difference(result[i], plain[i]).max() > 3 for i in with_face)
    above_mouth = (slice(None), slice(0, 75))  # the eyes
    assert torch.equal(mouth[above_mouth], plain[above_mouth])
    assert difference(face[above_mouth], plain[above_mouth]).max() > 20
    assert torch.equal(face[:, :30], plain[:, :30])  # the wall


def test_the_mouth_is_what_blending_restored_crops_gives(clip):
    """To the rounding to 8 bits in between."""
    frames = pictures(clip)
    track = tracked(clip, frames)
    crops = AlignedFaces(frames, track.matrices, track.found, 64)[range(FRAMES)] * 0.5 + 0.25
    graph = torch.cat(list(blend(frames, track, [Restoration(Grain(), 64, STRONG, track)(crops, 0)])))
    run = torch.cat(list(blend_restored(frames, [track], [[crops]], SuperRes(Grain(), STRONG), BlendSettings())))
    assert difference(graph, run).max() <= 1 and difference(run, frames).max() > 10


@pytest.mark.parametrize("superres", [SuperRes(Grain(), STRONG), SuperRes(Sharpen(), STRONG, ratio=1.5)])
def test_streamed_equals_whole(clip, model, superres):
    streamed, whole = (spoken(clip, model, superres, frames) for frames in (None, pictures(clip)))
    assert torch.equal(streamed, whole)
    floats = spoken(clip, model, superres, as_float(pictures(clip)))
    assert floats.is_floating_point() and (as_float(streamed) - floats).abs().max() < 3 / 255


def test_a_ratio_makes_the_whole_frame_larger_and_leaves_the_picture_where_it_is(clip, model):
    plain = spoken(clip, model)
    large = spoken(clip, model, SuperRes(ratio=2))
    assert tuple(large.shape) == (FRAMES, 2 * HEIGHT, 2 * WIDTH, 3)
    assert torch.equal(large[:, :120], Enlarged(pictures(clip), (2 * HEIGHT, 2 * WIDTH))[range(FRAMES)][:, :120])
    assert torch.equal(spoken(clip, model, SuperRes(Grain(), replace(STRONG, strength=0.0), 2)), large)
    small = F.interpolate(large.permute(0, 3, 1, 2).float(), (HEIGHT, WIDTH), mode="area").permute(0, 2, 3, 1)
    assert (small - plain).abs().mean() < 1 and (small - plain).abs()[:, 95:120].mean() < 2
    finer_large = spoken(clip, model, SuperRes(Grain(), STRONG, 2))
    assert difference(finer_large, large).max() > 10 and torch.equal(finer_large[:, :120], large[:, :120])


def test_published_settings_restore_too(clip, model):
    settings = FAST.as_published()
    plain, finer_run = (
        spoken(clip, model, superres, track=settings.track, blend=settings.blend)
        for superres in (None, SuperRes(Grain(), STRONG))
    )
    assert difference(plain, finer_run).max() > 3


def test_windows_are_split_and_nothing_is_kept(clip):
    """However long a clip is, no more than a window of crops and a batch of frames is held."""
    frames = pictures(clip)
    track = tracked(clip, frames).take(list(range(FRAMES)) * 3)
    asked, made = [], []

    class Watched:
        def __len__(self):
            return 3 * FRAMES

        def __getitem__(self, indices):
            asked.extend(indices)
            return frames[[i % FRAMES for i in indices]]

    def crops():
        for i in range(0, 3 * FRAMES, 6):
            made.append(i)
            yield [torch.rand(6, 64, 64, 3)]

    done = 0
    for window in blend_restored(
        Watched(), [track], crops(), SuperRes(Same(), replace(STRONG, batch=2)), BlendSettings()
    ):
        assert len(window) <= 2 and max(asked) < done + 2 and made[-1] <= done
        done += len(window)
    assert done == 3 * FRAMES


# --- geometry and enlarging ---


def test_crops_lie_at_the_same_place_of_enlarged_frames(clip):
    frames = pictures(clip)
    track = tracked(clip, frames)
    size = (round(HEIGHT * 1.7), round(WIDTH * 1.7))
    large = rescale_track(track, (HEIGHT, WIDTH), size, 128)
    corners = np.array([[-0.5, -0.5], [63.5, -0.5], [10, 50.0]])
    in_frame = apply(invert(crop_matrix(track.matrices[3], 64)), corners)
    expected = (in_frame + 0.5) * np.array(size[::-1]) / [WIDTH, HEIGHT] - 0.5
    found = apply(invert(crop_matrix(large.matrices[3], 128)), (corners + 0.5) * 2 - 0.5)
    assert np.abs(found - expected).max() < 1e-3
    seen = AlignedFaces(Enlarged(frames, size), large.matrices, large.found, 128)[[3]]
    known = resized(AlignedFaces(frames, track.matrices, track.found, 64)[[3]][0], (128, 128))
    assert (seen[0] - known).abs().mean() < 0.02


def upscaler_file(tmp_path, scale=2):
    from spandrel.architectures.Compact import Compact

    net = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=1, upscale=scale)
    torch.nn.init.normal_(net.body[-1].weight, std=0.02)
    path = tmp_path / "twice.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    return path


def test_tiles_meet_without_a_seam_and_are_halved_when_memory_runs_out(tmp_path, caplog):
    upscaler = load_upscaler(upscaler_file(tmp_path))
    picture = torch.rand(150, 210, 3)
    whole = upscaler(picture)
    assert tuple(whole.shape) == (300, 420, 3)
    upscaler.tile = 64
    assert torch.allclose(upscaler(picture), whole, atol=1e-6)
    upscaler.tile = 256

    def small_memory(_, tiles):
        if tiles[0].shape[3] > 128 + 32:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    upscaler.net.net.register_forward_pre_hook(small_memory)
    assert (
        torch.allclose(upscaler(picture), whole, atol=1e-6) and upscaler.tile == 128 and "tiles of 128" in caplog.text
    )


def test_the_upscaler_enlarges_the_frames_to_any_ratio(tmp_path):
    upscaler = load_upscaler(upscaler_file(tmp_path))
    frames = torch.randint(0, 256, (2, 40, 60, 3), dtype=torch.uint8)
    twice = Enlarged(frames, (80, 120), upscaler)[[1]]
    assert twice.dtype == torch.uint8
    assert difference(twice[0], (upscaler(as_float(frames[1])).clamp(0, 1) * 255).round()).max() == 0
    assert Enlarged(frames, (120, 180), upscaler)[[0, 1]].shape == (2, 120, 180, 3)
    assert not torch.equal(twice, Enlarged(frames, (80, 120))[[1]])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"ratio": 0.5}, "sr_ratio is 0.5: give a number from 1"),
        ({"ratio": 5}, "sr_ratio is 5"),
        ({"ratio": float("nan")}, "sr_ratio is nan"),
    ],
)
def test_ratios_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        SuperRes(**settings)


def test_an_upscaler_that_is_none_or_has_nothing_to_do_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice has nothing to do at sr_ratio 1"):
        SuperRes(upscaler=load_upscaler(upscaler_file(tmp_path)))

    class Face:
        portraits, kind, name = True, "GFPGAN", "GFPGANv1.4"

    with pytest.raises(ValueError, match="GFPGANv1.4 is a face restorer"):
        Upscaler(Face())


# --- a video that is there ---


def test_restoring_keeps_the_frame_s_detail_around_what_changes(clip):
    frames = pictures(clip)
    track = tracked(clip, frames)
    same = torch.cat(list(restore_frames(frames, track, SuperRes(Same(), replace(STRONG, region="face")))))
    assert torch.equal(same, frames)
    changed = torch.cat(list(restore_frames(frames, track, SuperRes(Grain(), STRONG))))
    assert torch.equal(changed[:, :75], frames[:, :75]) and difference(changed, frames).max() > 20
    hard, soft = (torch.cat(list(restore_frames(frames, track, SuperRes(Grain(), STRONG), s))) for s in (0.0, 1.0))
    assert difference(hard, frames).sum() > difference(soft, frames).sum()


def test_sharpening_a_soft_face_makes_it_clearer_and_not_less_steady(clip):
    frames = pictures(clip)
    soft = F.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 3, 1, 1).round().to(torch.uint8).permute(0, 2, 3, 1)
    track = tracked(clip, soft, 128)
    clear = torch.cat(list(restore_frames(soft, track, SuperRes(Sharpen(), RestoreSettings(1.0, "face")))))
    before, after = (AlignedFaces(f, track.matrices, track.found, 128)[range(FRAMES)] for f in (soft, clear))
    region = face_mask(128, "face", feather=0) > 0
    edges = [crops.mean(-1).diff(dim=2).abs()[:, region[:, 1:]].mean() for crops in (before, after)]
    assert edges[1] > 1.05 * edges[0]
    assert flicker(after, before, region).mean() < 2


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_video_is_restored_with_its_sound(tmp_path, ratio):
    made = make_clip(tmp_path, frames=6, seconds=0.24)
    sounding = tmp_path / "sounding.mp4"
    with VideoWriter(sounding, 25, HEIGHT, WIDTH, audio=made.audio, crf=12) as writer:
        writer.write(pictures(made))
    settings = RunSettings(track=TrackSettings(), superres=SuperRes(Sharpen(), STRONG, ratio))
    summary = restore_video(sounding, tmp_path / "out.mp4", detector(made), settings, resolution=64)
    assert (summary.frames, summary.frames_with_face, summary.fps) == (6, 6, 25)
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (len(reader), reader.height, reader.width) == (6, ratio * HEIGHT, ratio * WIDTH)
    assert packet_bytes(tmp_path / "out.mp4", "audio") == packet_bytes(sounding, "audio")
    with pytest.raises(ValueError, match="nothing to do"):
        restore_video(sounding, tmp_path / "out.mp4", detector(made), RunSettings())


# --- the command line ---


def argv(command, clip, **changes):
    given = {"video_path": clip.video, "video_out_path": clip.video.with_name("out.mp4"), "detector": "file"}
    if command == "run":
        given |= {"audio_path": clip.audio, "inference_steps": 1, "guidance_scale": 1, "window": 8}
    given |= {"detector_model": clip.track, "device": "cpu"}
    return [command, *(f"--{key}={value}" for key, value in (given | changes).items())]


def test_run_and_restore_on_the_command_line(tmp_path, tmp_path_factory, capsys, monkeypatch):
    monkeypatch.setitem(HARDWARE, "nvenc", "none")
    compressed = {"encoder": "nvenc", "preset": "ultrafast"}
    fastest = b"subme=0 "  # among what x264 writes into its files of its settings
    clip = make_clip(tmp_path, frames=4, seconds=0.16)
    weights = tiny.make_checkpoints(tmp_path_factory.mktemp("weights") / "checkpoints", resolution=64)
    upscaler = upscaler_file(tmp_path_factory.mktemp("upscaler"))
    options = {"superres": "sharpen", "superres-strength": 0.9, "sr-ratio": 2, "mask-smooth": 0.3}
    assert main(argv("run", clip, checkpoints=weights, **compressed, **options)) == 0
    assert "encoder x264: nvenc does not work here" in capsys.readouterr().err
    assert fastest in (tmp_path / "out.mp4").read_bytes()
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (len(reader), reader.height, reader.width) == (4, 2 * HEIGHT, 2 * WIDTH)
    changes = {"superres_region": "face", "sr_ratio": 1.5, "upscaler": upscaler, "resolution": 64}
    assert main(argv("restore", clip, superres="sharpen", **compressed, **changes)) == 0
    assert fastest in (tmp_path / "out.mp4").read_bytes()
    assert "4 frames at 25 fps, the face in 4" in capsys.readouterr().out
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (len(reader), reader.height, reader.width) == (4, 270, 360)


@pytest.mark.parametrize("command, name", [("run", "GFPGAN"), ("restore", "CodeFormer"), ("restore", "RestoreFormer")])
def test_a_missing_restorer_says_how_to_get_it(clip, capsys, command, name):
    weights = tiny.make_checkpoints(clip.video.with_name("weights"), resolution=64)
    sentence = refused(capsys, clip.video.parent, argv(command, clip, superres=name, checkpoints=weights))
    assert f"has no file of {name}" in sentence
    assert f"python -m latentsync download --only {name.lower()} --checkpoints {weights}" in sentence


def test_a_restorer_s_file_is_found_in_the_checkpoints_folder(tmp_path, capsys):
    from spandrel.architectures.RestoreFormer import RestoreFormer

    clip = make_clip(tmp_path, frames=1)
    sizes = {"n_embed": 16, "embed_dim": 32, "z_channels": 32, "ch": 32, "num_res_blocks": 1, "head_size": 8}
    net = RestoreFormer(**sizes, ch_mult=(1,) * 6)
    folder = clip.video.with_name("weights") / "RestoreFormer"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / "RestoreFormer.pth")
    command = argv("restore", clip, superres="RestoreFormer", checkpoints=folder.parent, resolution=64)
    assert main(command) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"sr_ratio": 0}, "sr_ratio is 0.0"),
        ({"sr_ratio": 4.5}, "sr_ratio is 4.5"),
        ({"superres_strength": 2}, "strength is 2.0"),
        ({"superres_temporal": -1}, "temporal is -1.0"),
        ({"mask_smooth": 3}, "mask_smooth is 3.0"),
        ({"resolution": 100}, "resolution is 100"),
        ({"sr_ratio": 2, "upscaler": "none.pth"}, "none.pth"),
        ({"video_out_path": "out.xyz"}, ".mp4"),
        ({"device": "warp9"}, "warp9"),
    ],
)
def test_options_out_of_range(clip, capsys, changes, words):
    assert words in refused(capsys, clip.video.parent, argv("restore", clip, superres="sharpen", **changes))


def test_restore_never_overwrites_the_video_and_needs_a_face(tmp_path, capsys):
    clip = make_clip(tmp_path, frames=3, without_face=range(3))
    command = argv("restore", clip, superres="sharpen", video_out_path=clip.video)
    assert "also an input" in refused(capsys, clip.video.parent, command)
    assert "no frame of the clip's 3" in refused(capsys, clip.video.parent, argv("restore", clip, superres="sharpen"))


def test_names_on_the_command_line_are_the_library_s():
    from latentsync.models.folders import Checkpoints
    from latentsync.models.registry import GROUPS
    from latentsync.pipelines import options

    assert {name.lower() for name in options.NETS} <= set(GROUPS) & set(Checkpoints.__dataclass_fields__)
    with pytest.raises(SystemExit):
        main(
            ["restore", "--video_path=a.mp4", "--video_out_path=b.mp4", "--superres=sharpen", "--superres_region=nose"]
        )
