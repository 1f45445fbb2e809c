"""What is in front of a face by its parsing: the rule, on maps of classes that are drawn; masks of frames; the net."""

import cv2
import numpy as np
import pytest
import tiny
import torch
from test_blend import place, track

from latentsync.face import parsing
from latentsync.face.align import FACE_SIDE, portrait_matrix
from latentsync.face.geometry import apply, crop_matrix, invert
from latentsync.face.occlusion import Occlusion
from latentsync.face.parsing import WEIGHTS, FaceParser, ParsedOcclusions, in_front, parser_file

BACKGROUND, SKIN, NOSE, GLASSES, INSIDE, UPPER, LOWER, HAIR, HAT, NECK, CLOTHES = 0, 1, 2, 3, 10, 11, 12, 13, 14, 17, 18
MOUTH = (256, 371)
REGIONS = ParsedOcclusions(torch.zeros(1, 8, 8, 3), track([place(4, 4)]), None)


def ellipse(classes, centre, axes, value, angle=0) -> np.ndarray:
    return cv2.ellipse(classes, centre, axes, angle, 0, 360, int(value), -1)


def person(opening=6) -> np.ndarray:
    """The classes of a portrait with nothing in front: (512, 512) uint8."""
    classes = np.zeros((FACE_SIDE, FACE_SIDE), np.uint8)
    ellipse(classes, (256, 560), (250, 90), CLOTHES)
    ellipse(classes, (256, 240), (160, 180), HAIR)
    cv2.rectangle(classes, (190, 400), (322, 500), NECK, -1)
    ellipse(classes, (256, 275), (137, 166), SKIN)
    ellipse(classes, (256, 305), (25, 30), NOSE)
    for x, brow, eye in ((193, 6, 4), (319, 7, 5)):
        ellipse(classes, (x, 205), (38, 7), brow)
        ellipse(classes, (x, 240), (22, 9), eye)
    ellipse(classes, MOUTH, (48, 14 + opening), UPPER)
    ellipse(classes, (256, 376), (46, 14 + opening), LOWER)
    return ellipse(classes, MOUTH, (38, opening), INSIDE)


def found(classes) -> np.ndarray:
    return in_front(classes, REGIONS.repainted, REGIONS.mouth)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: ellipse(c, MOUTH, (45, 40), INSIDE),  # wide open
        lambda c: ellipse(c, (200, 300), (40, 160), HAIR, 20),
        lambda c: cv2.rectangle(c, (150, 215), (360, 300), GLASSES, -1),
        lambda c: ellipse(c, (256, 430), (120, 60), HAIR),  # a beard
        lambda c: ellipse(c, (256, 90), (170, 60), HAT),
        lambda c: cv2.rectangle(c, (300, 0), (511, 511), 0, -1),  # turned away: half of it is the wall
        lambda c: cv2.rectangle(c, (230, 330), (238, 340), 0, -1),  # a speck
    ],
)
def test_what_is_the_person_s_is_not_in_front_nor_is_what_lies_beside_the_face(change):
    assert not found(change(person())).any()


@pytest.mark.parametrize("value", [BACKGROUND, CLOTHES, HAT])
@pytest.mark.parametrize(
    ("centre", "axes"),
    [
        (MOUTH, (60, 45)),  # over the mouth
        ((256, 420), (130, 95)),  # over mouth, chin and neck
        ((150, 400), (90, 40)),  # from the side
        ((300, 371), (20, 120)),  # upright, over half of the mouth
    ],
)
def test_a_thing_before_the_mouth_is_found_to_its_outline_also_where_it_leaves_the_face(centre, axes, value):
    before = person()
    thing = ellipse(np.zeros_like(before), centre, axes, 1) == 1
    front = found(np.where(thing, value, before).astype(np.uint8)) == 1
    own = ~np.isin(before, parsing.FOREIGN)
    assert (front & own == thing & own).all()
    # Beside the face it cannot be told from what was background before: that counts as far as `STEPS` go.
    side = 2 * parsing.STEP * parsing.STEPS + 1
    near = cv2.dilate((thing & own).astype(np.uint8), np.ones((side, side))) == 1
    assert not (front & ~own & ~near).any()


def test_the_least_that_counts_and_how_far_a_thing_goes_on():
    def covered(count):
        classes = person()
        classes[350 : 350 + count // 10, 251:261] = 0
        return found(classes).sum()

    assert covered(120) == 0 and covered(130) == 130
    # An arm from the side is followed out of the face, and no further than this.
    classes = person()
    classes[340:360, :200] = BACKGROUND
    columns = np.flatnonzero(found(classes)[350])
    inside = np.flatnonzero((person()[350] != BACKGROUND) & (classes[350] == BACKGROUND)).min()
    contour = inside + parsing.CONTOUR
    assert columns.max() == 199 and contour - 112 - 3 <= columns.min() <= contour - 112 + 8


class ByColour(FaceParser):
    """In place of the net: the classes of `person`, and background where a portrait is green."""

    def __init__(self):
        self.seen = 0

    def __call__(self, portrait):
        self.seen += 1
        return np.where((portrait[..., 1] - portrait[..., 0] > 0.5).numpy(), 0, person()).astype(np.uint8)


def clip(covered: str, scale=1.0, cuts=()):
    """Frames of a grey face that moves, with a green disc before its mouth where `covered` has an x; masks, track."""
    matrices = [place(160 + 2 * i, 118, scale) for i in range(len(covered))]
    follow = track(matrices, [c != "-" for c in covered])
    follow.cuts[list(cuts)] = True
    frames = torch.full((len(covered), 240, 320, 3), 90, dtype=torch.uint8)
    masks = np.zeros((len(covered), 240, 320), np.uint8)
    to_crop = portrait_matrix(follow.resolution)
    for i, c in enumerate(covered):
        if c == "x":
            to_frame = invert(crop_matrix(matrices[i], follow.resolution))
            outline = cv2.ellipse2Poly(MOUTH, (60, 45), 0, 0, 360, 5).astype(float)
            cv2.fillPoly(masks[i], [apply(to_frame, apply(to_crop, outline)).round().astype(int)], 1)
    masks = torch.from_numpy(masks)
    frames[masks == 1] = torch.tensor([20, 230, 20], dtype=torch.uint8)
    return frames, masks, follow


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.2])
def test_masks_lie_where_the_thing_is_in_the_frame(scale):
    frames, masks, follow = clip("xxxx", scale)
    parsed = ParsedOcclusions(frames, follow, ByColour())[[0, 1, 2, 3]]
    assert parsed.dtype == torch.uint8 and parsed.shape == masks.shape
    missed = ((parsed < 128) & (masks == 1)).sum() / masks.sum()
    too_much = ((parsed >= 128) & (masks == 0)).sum() / masks.sum()
    assert missed < 0.04 and too_much < 0.04


@pytest.mark.parametrize(
    ("covered", "kept", "cuts"),
    [
        ("..x..xx..x.x", ".....xx...xx", ()),  # a vote of three; the last frame stands for itself
        ("x.x.....x...", "xx......x...", (8,)),
        (".x.-x...x.xx", "...-x....xxx", ()),
    ],
)
def test_what_flashes_up_in_one_frame_is_dropped_and_windows_give_what_the_whole_gives(covered, kept, cuts):
    frames, _, follow = clip(covered, cuts=cuts)
    parser, asked = ByColour(), []
    parsed = ParsedOcclusions(frames, follow, parser, lambda stop: asked.append(stop) or follow.runs(stop))
    windows = torch.cat([parsed[numbers] for numbers in ([0, 1, 2], [3], list(range(4, 12)))])
    assert "".join("-" if c == "-" else "x" if m.any() else "." for c, m in zip(covered, windows, strict=True)) == kept
    assert parser.seen == len(covered.replace("-", "")) and asked == [4, 5, 12]
    assert torch.equal(ParsedOcclusions(frames, follow, ByColour())[list(range(12))], windows)


def test_an_occlusion_of_parsed_masks_covers_the_thing_and_little_more():
    frames, masks, follow = clip("xxxxx")
    free = Occlusion(ParsedOcclusions(frames, follow, ByColour()), follow)[[0, 1, 2, 3, 4]]
    given = Occlusion(255 * masks, follow)[[0, 1, 2, 3, 4]]
    assert (free - given).abs().mean() < 0.01


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """ParseNet's file with weights by formula."""
    net = pytest.importorskip("facexlib.parsing.parsenet").ParseNet(512, 512, parsing_ch=19)
    path = tmp_path_factory.mktemp("checkpoints") / "auxiliary" / WEIGHTS
    path.parent.mkdir()
    torch.save(tiny.weights(net), path)
    return path


def test_the_parser_is_facexlib_s_net_on_colours_from_minus_one_to_one(weights):
    from facexlib.parsing.parsenet import ParseNet

    parser = FaceParser(parser_file(weights.parents[1], ""))
    net = ParseNet(512, 512, parsing_ch=19).eval()
    net.load_state_dict(torch.load(weights))
    portrait = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(2 * portrait.permute(2, 0, 1)[None] - 1)[0][0].argmax(0)
    classes = parser(portrait)
    assert classes.dtype == np.uint8 and len(np.unique(classes)) > 3
    assert (classes == expected.numpy()).all()


def test_a_file_that_does_not_fit_is_refused_and_a_missing_one_is_named(weights, tmp_path):
    torch.save({"encoder.0.conv2d.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: does not fit ParseNet .*give parsing_parsenet.pth"):
        FaceParser(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="has no parsing_parsenet.pth, which finds what is in front of a face: get it"):
        parser_file(tmp_path, "get it")
