import pytest
import torch
from heads import head, track_face, unchanged

R = 128


@pytest.fixture
def made(pack, monkeypatch, comfy_folders):
    """A head with a green bar before its mouth, its track, and in place of the net what sees the green."""
    source = head(pack, missing=(5, 6))
    source.images = source.images.clone()
    source.track = track_face(pack, source)[0]
    source.images[:, 112:124, 60:140] = torch.tensor([0.1, 0.9, 0.1])

    class Green(pack.nodes.occlusion.FaceParser):
        def __init__(self, path):
            self.path, self.net = path, torch.nn.Conv2d(3, 1, 1)

        def __call__(self, portrait):
            self.net(portrait.permute(2, 0, 1)[None])
            return (portrait[..., 1] - portrait[..., 0] < 0.4).to(torch.uint8).numpy()

    monkeypatch.setattr(pack.nodes.occlusion, "FaceParser", Green)
    weights = comfy_folders.models / "facexlib" / "parsing_parsenet.pth"
    weights.parent.mkdir()
    weights.touch()
    return source


def segment(pack, made, **inputs):
    return pack.run("LatentSyncSegmentOcclusions", **{"images": made.images, "track": made.track} | inputs)[0]


def test_masks_of_the_frames_keep_what_is_in_front_in_blend_faces(pack, made):
    with unchanged(made.images):
        masks = segment(pack, made)
    assert masks.shape == made.images.shape[:3] and masks.dtype == torch.float32 and masks.max() == 1
    assert not masks[5:7].any()  # no face
    green = made.images[..., 1] - made.images[..., 0] > 0.4
    shown = torch.tensor([i not in (5, 6) for i in range(12)])
    assert ((masks[shown] > 0.5) == green[shown]).float().mean() > 0.99
    given = {"images": made.images, "track": made.track, "crops": torch.rand(12, R, R, 3)}
    out = pack.run("LatentSyncBlendFaces", **given, mask_smooth=0.5, match_colour=False, occlusion=masks)[0]
    assert torch.equal(out[masks > 0.1], made.images[masks > 0.1]) and not torch.equal(out, made.images)


def test_it_can_be_cancelled_inside_the_net(pack, made, monkeypatch):
    from comfy import model_management as mm

    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda *_: mm.interrupt_current_processing())
    monkeypatch.setattr(pack.nodes.occlusion.FaceParser, "__call__", lambda self, _: [self.net(0), self.net(0)])
    with pytest.raises(mm.InterruptProcessingException):
        segment(pack, made)


def test_a_missing_file_and_another_clip_are_named(pack, made, comfy_folders):
    with pytest.raises(ValueError, match="covers 12 frames and there are 11 images"):
        segment(pack, made, images=made.images[1:])
    (comfy_folders.models / "facexlib" / "parsing_parsenet.pth").unlink()
    with pytest.raises(ValueError, match="has no parsing_parsenet.pth, .*: run the node Download LatentSync Models"):
        segment(pack, made)
