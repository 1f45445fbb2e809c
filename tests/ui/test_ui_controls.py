"""The settings of the page are those of the command run."""

import argparse

import cv2
import gradio
import numpy as np
import pytest
from small_page import options, upload, values

from latentsync.commands.main import build_parser
from latentsync.pipelines.options import run_settings
from latentsync.ui.controls import CONTROLS, NONE, by_quality, checked, default_arguments, run_options, shown_controls
from latentsync.ui.page import component

FILES = ["--video_path", "v", "--audio_path", "a", "--video_out_path", "o"]
ELSEWHERE = {"checkpoints", "detector", "detector_model", "device", "dtype", "compile"}  # options of the command ui
LEFT_OUT = {"encoder", "preset", "resume", "published", "upscaler"}
LEFT_OUT |= {"inference_ckpt_path", "unet_config_path", "temp_dir"}  # the published program's


def parsed():
    """What `run` gets where nothing but its files is given; `--quality` fills in what is None."""
    given = vars(build_parser().parse_args(["run", *FILES]))
    return given | {name: option.default for name, option in run_options().items() if option.by_quality}


def test_quality_changes_the_settings_that_the_command_changes():
    names, table = by_quality()
    assert set(names) == {"inference_steps", "guidance_scale", "sampler", "deep_cache", "uncond"}
    for quality, fields in table.items():
        settings = run_settings(build_parser().parse_args(["run", *FILES, "--quality", quality]))
        arguments = argparse.Namespace(**vars(default_arguments(run_options())) | dict(zip(names, fields, strict=True)))
        assert run_settings(arguments) == settings


def test_every_option_of_run_is_on_the_page_or_left_out_on_purpose():
    shown = {control.name for control in CONTROLS}
    assert shown | ELSEWHERE | LEFT_OUT == run_options().keys() and not shown & (ELSEWHERE | LEFT_OUT)
    assert len(shown) == len(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_setting_shows_the_default_of_run_and_explains_itself(control):
    option, usual = run_options()[control.name], parsed()[control.name]
    made = component(gradio, control, option)
    assert (made.info and made.label) or (control.file and option.help in made.label)
    shown = {"none": None, 0: None}.get(made.value, made.value) if usual is None else made.value
    assert shown == usual and checked(option, made.value) == usual
    if option.slider is not None:
        low, high, step = option.slider
        assert low <= usual <= high and (made.minimum, made.maximum, made.step) == option.slider
        assert option.low <= low and high <= option.high and step > 0
    if option.choices is not None:
        assert set(option.choices) <= {value for _, value in made.choices}


def test_untouched_settings_are_those_of_the_command(visits):
    arguments, settings = visits._chosen(values(visits))
    expected = {name: value for name, value in parsed().items() if name in vars(arguments) and name not in FILES}
    for name in expected.keys() - ELSEWHERE - LEFT_OUT:
        assert getattr(arguments, name) == expected[name]
    assert settings == run_settings(build_parser().parse_args(["run", *FILES]))


def test_changed_settings_arrive(visits):
    chosen = {"inference_steps": 7, "seed": 5, "face": "index:1", "resolution": 128, "fps": 25, "superres": "sharpen",
              "deep_cache": 3}  # fmt: skip
    arguments, settings = visits._chosen(values(visits, **chosen))
    assert (settings.sync.steps, settings.sync.seed, settings.sync.deep_cache, settings.fps) == (7, 5, 3, 25.0)
    assert settings.track.which == "index:1" and arguments.resolution == 128 and arguments.superres == "sharpen"


def test_a_mask_image_is_an_upload(visits, folder, tmp_path):
    picture = np.full((8, 8), 255, np.uint8)
    picture[4:] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), picture)
    given = upload(folder, tmp_path / "mask.png")
    assert np.array_equal(visits._chosen(values(visits, mask_image=given))[1].mask_image, picture)
    assert visits._chosen(values(visits, mask_image=given["path"]))[1].mask_image is not None
    with pytest.raises(ValueError, match="the mask image 'mask.png' was not uploaded on this page"):
        visits._chosen(values(visits, mask_image=str(tmp_path / "mask.png")))


def test_without_enable_sr_nothing_is_restored(nets, folder):
    from latentsync.ui.visitors import Sessions

    visits = Sessions(nets, folder)
    names = [control.name for control in visits.controls]
    assert names == [control.name for control in shown_controls(False)] and not any("superres" in n for n in names)
    assert visits._chosen(values(visits))[0].superres is None
    visits.close()


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("inference_steps", "many", "inference_steps is 'many': give a whole number"),
        ("inference_steps", 2.5, "inference_steps is 2.5: give a whole number"),
        ("inference_steps", 0, "inference_steps is 0"),
        ("guidance_scale", float("nan"), "guidance_scale is nan: give a number"),
        ("guidance_scale", 10**400, "give a number"),
        ("guidance_scale", None, "guidance_scale is None: give a number"),
        ("seed", [1], "give a whole number"),
        ("sampler", "magic", "sampler is 'magic': choose one of ddim"),
        ("sampler", ["ddim"], "choose one of"),
        ("audio_longer", "none", "choose one of pingpong"),
        ("face", "the left one", "the left one"),
        ("overlap", 16, "overlap is 16"),
        ("fps", -3, "fps is -3"),
        ("crf", 99, "crf is 99"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(visits, name, value, says):
    with pytest.raises(ValueError) as error:
        visits._chosen(values(visits, **{name: value}))
    assert says in str(error.value)


def test_values_of_flags_and_absent_options():
    known = run_options()
    assert checked(known["match_colour"], True) is True and checked(known["match_colour"], None) is False
    for nothing in (None, "", 0, NONE):
        assert checked(known["fps"], nothing) is None and checked(known["superres"], nothing) is None
    assert checked(known["sr_ratio"], 0) is default_arguments(known).sr_ratio is None and options().device == "cpu"
