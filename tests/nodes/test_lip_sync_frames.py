"""The whole run on IMAGE batches."""

import pytest
import torch
from heads import head, unchanged
from test_video import WIDGETS

IMAGES = {name: value for name, value in WIDGETS.items() if name != "crf"} | {"fps": 25.0}


@pytest.fixture
def given(pack, model):
    source = head(pack)
    return {"images": source.images, "audio": source.audio, "model": model, "detector": source.detector} | IMAGES


@pytest.mark.parametrize("widgets", [{}, {"audio_longer": "loop", "overlap": 2, "match_colour": True}])
def test_frames_are_those_of_lip_sync_video_before_encoding(pack, given, rendered, widgets):
    from comfy_api.latest import InputImpl, Types

    audio = {"waveform": given["audio"]["waveform"].repeat(1, 1, 2)[..., :9600], "sample_rate": 16_000}
    given |= {"audio": audio} | widgets
    with unchanged(given["images"], audio["waveform"]):
        images, sound = pack.run("LatentSyncFrames", **given)
    parts = Types.VideoComponents(images=given["images"], frame_rate=25, audio=None)
    usual = {name: value for name, value in given.items() if name not in ("images", "fps")} | {"crf": 16}
    pack.run("LatentSyncVideo", video=InputImpl.VideoFromComponents(parts), **usual)
    assert torch.equal(images, torch.cat(rendered)) and len(images) == 15
    assert images.dtype == torch.float32 and sound is audio


def test_what_is_in_front_of_the_face_stays(pack, given):
    covered = torch.zeros(12, *given["images"].shape[1:3])
    covered[6:] = 1
    images, _ = pack.run("LatentSyncFrames", **given, occlusion=covered)
    assert torch.equal(images[6:], given["images"][6:]) and not torch.equal(images[:6], given["images"][:6])
    with pytest.raises(ValueError, match="is 60 x 50 and the frames are 201 x 160: resize it"):
        pack.run("LatentSyncFrames", **given, occlusion=torch.zeros(1, 50, 60))


def test_the_sound_ends_with_the_frames(pack, given):
    images, sound = pack.run("LatentSyncFrames", **given | {"audio_longer": "stop", "images": given["images"][:5]})
    assert len(images) == 5 and sound["waveform"].shape[-1] == 5 * sound["sample_rate"] // 25


def test_what_will_not_fit_is_said_before_with_the_node_to_take(pack, given, monkeypatch):
    """A frame more than there is room for, and none of the work is begun."""
    from comfy import model_management

    free = given["images"].nbytes
    given["detector"] = given["model"] = None  # neither is looked for
    with monkeypatch.context() as patch:
        patch.setattr(model_management, "get_free_memory", lambda device: free - 1)
        with pytest.raises(ValueError, match=r"12 frames of 201 x 160 pixels take 0\.0 GB .*take Lip Sync Video"):
            pack.run("LatentSyncFrames", **given)
        patch.setattr(model_management, "get_free_memory", lambda device: free)
        pack.nodes.runtime.check_room(12, 160, 201)


def test_without_a_model_the_first_installed_is_taken_or_the_way_to_one_said(pack, given, model, monkeypatch):
    given["model"] = None
    with pytest.raises(ValueError, match="no model is connected and .*latentsync has none: run the node Download"):
        pack.run("LatentSyncFrames", **given)
    taken, patcher = [], pack.nodes.model_patcher
    monkeypatch.setattr(patcher, "model_files", lambda: ["1.5/latentsync_unet.pt", "latentsync_unet.pt", "other.pt"])
    monkeypatch.setattr(patcher, "load_managed_model", lambda name: taken.append(name) or model)
    assert len(pack.run("LatentSyncFrames", **given)[0]) == 12
    assert taken == ["latentsync_unet.pt"]
