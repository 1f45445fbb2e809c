import numpy as np
import pytest
from golden_data import tensors
from real_clips import FOLDER, media_file

from latentsync.face.geometry import apply, corners, fit_similarity, from_pose, to_pose
from latentsync.face.landmarks import Detection, Face
from latentsync.face.smoothing import bridge, jumps, smooth
from latentsync.face.track import (
    TRACK_FIELDS,
    FaceTrack,
    Follower,
    choices,
    choices_apart,
    choose_faces,
    left_alone,
    place_choices,
    track_faces,
)
from latentsync.settings import TrackSettings

FPS = 25.0


def face(x=300.0, y=200.0, size=100.0, score=0.9, **more) -> Face:
    points = np.array([[x - 0.25 * size, y - 0.2 * size], [x + 0.25 * size, y - 0.2 * size], [x, y + 0.05 * size]])
    return Face((x - size / 2, y - 0.6 * size, x + size / 2, y + 0.6 * size), score, points, **more)


def seen(*faces, cut=False) -> Detection:
    return Detection(list(faces), cut)


def chosen_apart(frames, *which):
    """Left edges of the chosen faces; `frames` hold the faces that each one's detector sees."""
    people = [Follower(FPS, TrackSettings(which=name, max_gap=0), None, name) for name in which]
    rows = choices_apart(([seen(*faces) for faces in row] for row in frames), people)
    return [[choice.face and choice.face.box[0] for choice in row] for row in rows]


def test_no_face_is_two_peoples():
    a, b = face(x=100), face(x=300)
    left, right = a.box[0], b.box[0]
    both, first, second = ([faces, faces] for faces in ([a, b], [a], [b]))
    away = [both, first, first, first, both]
    for who in (("nearest:0,0", "nearest:900,0"), ("index:0", "index:1")):
        assert chosen_apart(away, *who) == [[left, right], *[[left, None]] * 3, [left, right]]
    # Who is there goes before who was asked for first, and an index counts everyone.
    assert chosen_apart([both, second, second], "nearest:0,0", "index:1") == [[left, right], *[[None, right]] * 2]
    assert chosen_apart([both, second, second], "index:0", "index:1") == [[left, right], *[[None, right]] * 2]
    near, far = ([[a], [face(x=100 + shift)]] for shift in (26, 29))  # a face's size is 110
    with pytest.raises(ValueError, match=r"largest and index:0 are the same person \(in frame 1\)"):
        chosen_apart([[[], [a]], near], "index:0", "largest")
    assert chosen_apart([far], "index:0", "largest") == [[left, left + 29]]


def test_published_matrices_come_out_of_a_track():
    golden = tensors("align_256")
    detections = [seen(Face((0, 0, 100, 120), 0.9, points)) for points in golden["landmarks"].numpy()]
    track = track_faces(detections, 256, FPS, TrackSettings(published=True))
    assert np.abs(track.matrices - golden["matrices"].numpy()).max() <= 1e-3
    assert track.found.all() and (track.weight == 1).all()


def test_short_gaps_are_bridged_and_long_ones_pass():
    """10 frames with the face, 5 without (0.2 s), 10 with, 30 without (1.2 s), 10 with."""
    shown = [True] * 10 + [False] * 5 + [True] * 10 + [False] * 30 + [True] * 10
    track = track_faces([seen(face()) if s else seen() for s in shown], 256, FPS)
    assert track.found.tolist() == [True] * 25 + [False] * 30 + [True] * 10
    assert track.runs() == [(0, 25), (55, 65)]
    assert (track.matrices[25:55] == 0).all() and (track.score[10:15] == 0).all()


@pytest.mark.parametrize("gap, longest, bridged", [(12, 0.5, True), (13, 0.5, False), (13, 0.51, True)])
def test_a_gap_of_half_a_second_is_the_longest_that_is_bridged(gap, longest, bridged):
    """12 frames at 25 frames/s; the half frame is rounded to even."""
    settings = TrackSettings(max_gap=longest)
    found = track_faces([seen(face())] * 4 + [seen()] * gap + [seen(face())] * 4, 256, FPS, settings).found
    assert found[4:-4].all() == bridged and found[4:-4].any() == bridged
    published = TrackSettings(max_gap=0)  # at least one frame
    assert track_faces([seen(face()), seen(), seen(face())], 256, FPS, published).found.all()
    assert not track_faces([seen(face()), seen(), seen(), seen(face())], 256, FPS, published).found.all()


@pytest.mark.parametrize("missed, bridged", [(1, True), (2, True), (3, False)])
def test_frames_that_are_skipped_do_not_make_a_gap_longer(missed, bridged):
    """With a look at every 10th frame, one in vain says nothing of the 18 frames around it; three span 21 frames."""
    looks = [seen(face())] * 2 + [seen()] * missed + [seen(face())] * 2
    detections = [looks[i // 10] if i % 10 == 0 else Detection(None) for i in range(10 * len(looks) - 9)]
    found = track_faces(detections, 256, FPS).found
    assert found.all() == bridged and found[:11].all() and found[-11:].all()


@pytest.mark.parametrize("every, lost, follows", [(1, 0.5, 24), (1, 0.48, 24), (1, 0.47, 23), (10, 0.5, 30)])
def test_a_lost_face_gives_way_to_another_after_half_a_second(every, lost, follows):
    """The face is seen last in frame 10; someone stands elsewhere from then on, and is taken at the next look."""
    mine, other = face(x=100), face(x=900)
    detections = [seen(mine if i <= 10 else other) if i % every == 0 else Detection(None) for i in range(41)]
    chosen = boxes(detections, TrackSettings(max_gap=lost))
    assert chosen[10] == mine.box and chosen.index(other.box) == follows


def test_a_face_of_another_size_in_the_same_place_is_not_followed():
    """Less than one face size away in all: the shift in sizes, and half the logarithm of the area's ratio."""
    last = face(x=300, size=100)

    def followed(other):
        return boxes([seen(last), seen(other)], TrackSettings())[1] is not None

    side = np.sqrt(last.width * last.height)
    assert followed(face(x=300 + 0.99 * side)) and not followed(face(x=300 + 1.01 * side))
    assert followed(face(x=300 + 0.58 * side, size=150)) and not followed(face(x=300 + 0.61 * side, size=150))
    assert followed(face(x=300, size=270)) and not followed(face(x=300, size=280))  # ln 2.7 < 1 < ln 2.8
    nearer_but_larger, of_its_size = face(x=310, size=160), face(x=330, size=100)
    assert boxes([seen(last), seen(nearer_but_larger, of_its_size)], TrackSettings())[1] == of_its_size.box


def test_jitter_is_the_second_difference_of_the_corners():
    """Even motion has none; a corner path 0, 0, d, d bends by d twice. Frames without the face are no neighbours."""

    def track(offsets, found=None, cuts=None):
        matrices = np.tile(np.eye(3)[:2], (len(offsets), 1, 1))
        matrices[:, 0, 2] = -np.asarray(offsets, float)
        shown = np.ones(len(offsets)) if found is None else np.asarray(found, float)
        return FaceTrack(matrices, shown, shown, np.zeros(len(offsets), bool) if cuts is None else cuts, 256)

    assert track([0, 3, 6, 9, 12]).jitter() == pytest.approx(0)
    assert track([0, 0, 4, 4]).jitter() == pytest.approx(4)
    assert track([0, 1, 4, 9]).jitter() == pytest.approx(2)
    assert track([0, 0, 7, 0, 0], found=[1, 1, 0, 1, 1]).jitter() == 0
    assert track([0, 0, 0, 9, 9, 9], cuts=np.arange(6) == 3).jitter() == 0


def test_fade_at_both_ends_of_a_gap_but_not_at_cuts_or_clip_ends():
    detections = [seen(face())] * 20 + [seen()] * 30 + [seen(face())] * 20
    weight = track_faces(detections, 256, FPS, TrackSettings(fade=0.15)).weight  # 3.75 frames: 4
    assert np.allclose(weight[15:21], [1, 0.8, 0.6, 0.4, 0.2, 0])
    assert np.allclose(weight[49:55], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert weight[0] == 1 and weight[-1] == 1
    detections[20], detections[50] = seen(cut=True), seen(face(), cut=True)
    weight = track_faces(detections, 256, FPS, TrackSettings(fade=0.16)).weight
    assert weight[:20].min() == 1 and weight[20:50].max() == 0 and weight[50:].min() == 1


def by_yaw(yaw, size=200.0) -> Face:
    return face(size=size, turned=float(yaw))


def test_a_face_that_turns_away_is_left_alone_with_fades_and_is_followed_on():
    yaws = [0] * 20 + [-75] * 30 + [0] * 20
    detections = [seen(by_yaw(yaw)) for yaw in yaws]
    settings = TrackSettings(fade=0.15)  # 4 frames
    track = track_faces(detections, 256, FPS, settings)
    assert np.allclose(track.weight[15:21], [1, 0.8, 0.6, 0.4, 0.2, 0])
    assert np.allclose(track.weight[49:55], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert track.runs() == [(0, 20), (50, 70)] and track.seen.all()
    reasons = left_alone(track, [d.faces[0] for d in detections], settings)
    assert reasons == [""] * 20 + ["turned 75 degrees"] * 30 + [""] * 20
    everything = [
        track_faces(detections, 256, FPS, TrackSettings(**off)) for off in ({"max_yaw": 90}, {"published": True})
    ]
    assert all((other.weight == 1).all() for other in everything)
    assert np.array_equal(everything[0].matrices, track.matrices)


@pytest.mark.parametrize("yaw, size, synced", [(60, 200, 1), (-60.01, 200, 0), (0, 19.6, 1), (0, 19.5, 0)])
def test_the_bounds_of_what_is_synced(yaw, size, synced):
    """A face of this shape is 1.2269 times as high as `size` by its three points."""
    track = track_faces([seen(by_yaw(yaw, size))] * 3, 256, FPS)
    assert track.found.tolist() == [bool(synced)] * 3 and track.heights()[0] == pytest.approx(1.2269 * size, rel=1e-4)
    (reason, *_) = left_alone(track, [by_yaw(yaw, size)] * 3, TrackSettings())
    assert reason == ("" if synced else "turned 60 degrees" if size == 200 else "24 pixels high")
    assert track_faces([seen(by_yaw(yaw, size))] * 3, 256, FPS, TrackSettings(max_yaw=90, min_face=0)).found.all()


@pytest.mark.parametrize("wrong, left", [(2, 0), (3, 3)])
def test_a_few_wrong_landmarks_leave_nothing_alone(wrong, left):
    """A frame goes by most of the 5 around it; in a gap that is bridged the face turns evenly."""
    yaws = [0] * 15 + [80] * wrong + [0] * 15
    assert (~track_faces([seen(by_yaw(yaw)) for yaw in yaws], 256, FPS).found).sum() == left
    bridged = [seen(by_yaw(0))] * 10 + [seen()] * 9 + [seen(by_yaw(90))] * 10
    assert track_faces(bridged, 256, FPS).found.tolist() == [True] * 16 + [False] * 13


def test_frames_not_looked_at_are_interpolated():
    moving = [face(x=100.0 + 3 * i) for i in range(41)]
    every = [seen(f) if i % 4 == 0 else Detection(None) for i, f in enumerate(moving)]
    track = track_faces(every, 256, FPS)
    assert track.found.all()
    full = track_faces([seen(f) for f in moving], 256, FPS)
    assert np.abs(track.matrices - full.matrices).max() < 1e-3


def test_steady_motion_passes_the_filter_unchanged():
    """No lag: a face that turns, grows and moves evenly is where it was measured."""
    path = [face(x=100 + 4.0 * i, y=200 - 1.5 * i, size=100 * 1.01**i) for i in range(60)]
    corner = np.array([[100.0, 140.0]])
    for f, matrix in zip(path, track_faces([seen(f) for f in path], 256, FPS).matrices, strict=True):
        exact = fit_similarity(f.points, 256)[0]
        assert np.abs(apply(matrix, corner) - apply(exact, corner)).max() < 0.1


def test_noise_is_taken_out_and_outliers_ignored():
    rng = np.random.default_rng(0)
    noisy = []
    for i in range(80):
        f = face(x=200 + 2 * np.sin(i / 10))
        noisy.append(Face(f.box, f.score, f.points + rng.normal(0, 0.7, (3, 2))))
    noisy[40] = Face(noisy[40].box, 0.9, noisy[40].points + [12, -9])
    detections = [seen(f) for f in noisy]
    default = track_faces(detections, 256, FPS)
    poses = np.stack([to_pose(fit_similarity(f.points, 256)[0], 256) for f in noisy])
    at_once = from_pose(smooth(poses, TrackSettings().smoothing * FPS), 256)
    places = [np.stack([corners(m, 256) for m in matrices]) for matrices in (default.matrices, at_once)]
    assert np.abs(places[0] - places[1]).max() < 0.2  # frame pixels: what is noise is found out in some 50 frames
    raw = track_faces(detections, 256, FPS, TrackSettings(smoothing=0))
    published = track_faces(detections, 256, FPS, TrackSettings(published=True))
    assert default.jitter() < 0.3 * raw.jitter() and default.jitter() < 0.3 * published.jitter()
    places = default.matrices[38:43, :, 2]
    assert np.abs(places - places.mean(0)).max() < 4


def test_what_is_smoothed_sees_18_frames_before_and_after_it():
    """16 at a time; three rounds of a filter that reaches 6 frames at 25 frames per second."""
    rng = np.random.default_rng(1)
    noisy = [face(x=200 + rng.normal(0, 0.7), y=200 + rng.normal(0, 0.7)) for _ in range(70)]
    poses = np.stack([to_pose(fit_similarity(f.points, 256)[0], 256) for f in noisy])
    matrices = track_faces([seen(f) for f in noisy], 256, FPS).matrices
    for first in (0, 16, 32, 48, 64):
        around = slice(max(0, first - 18), first + 34)
        expected = from_pose(smooth(poses[around], 2.0), 256)[first - around.start :][:16]
        assert np.array_equal(matrices[first : first + 16], expected.astype(np.float32))


def test_a_cut_resets_smoothing():
    detections = [seen(face(x=100))] * 20 + [seen(face(x=500), cut=True)] + [seen(face(x=500))] * 19
    track = track_faces(detections, 256, FPS)
    assert np.ptp(track.matrices[:20], axis=0).max() < 1e-4 and np.ptp(track.matrices[20:], axis=0).max() < 1e-4
    assert track.runs() == [(0, 20), (20, 40)]


def test_an_edit_inside_a_shot_is_not_smoothed_over():
    detections = [seen(face(x=200 + 0.1 * i)) for i in range(20)] + [seen(face(x=230 + 0.1 * i)) for i in range(20)]
    track = track_faces(detections, 256, FPS)
    exact = np.stack([fit_similarity(d.faces[0].points, 256)[0] for d in detections])
    assert np.abs(track.matrices - exact).max() < 0.01
    assert jumps(np.array([[0.0, 0]] * 10 + [[50.0, 0]] + [[0.0, 0]] * 10), 8) == []


@pytest.mark.parametrize(("share", "edit"), [(0.0315, True), (0.0285, False)])
def test_an_edit_moves_the_face_by_more_than_3_percent_of_its_height(share, edit):
    height = 280 / np.hypot(*fit_similarity(face().points, 256)[0][:, 0])
    x = 300 + np.random.default_rng(0).normal(0, 0.05, 40) + np.repeat([0, share * height], 20)
    track = track_faces([seen(face(x=v)) for v in x], 256, FPS)
    step = np.diff(track.matrices[18:22, 0, 2])
    assert (abs(step[1]) > 0.95 * 280 * share) == edit


def test_a_track_grows_in_stretches_that_are_settled():
    """What comes is the track of the whole clip, whatever is seen next, and no later than it has to."""
    shown = [0, 0] + [1] * 30 + [0] * 5 + [1] * 13 + [0] * 30 + [1] * 25 + [0] * 12 + [1] * 30
    faces = [face(x=300 + i % 3, size=100 + i % 5, turned=90.0 * (i // 7 % 2)) for i in range(len(shown))]
    looks = [seen(f) if there else seen() for f, there in zip(faces, shown, strict=True)]
    looks[60] = seen(cut=True)
    given = []

    def watched(detections):
        for i, detection in enumerate(detections, 1):
            given[:] = [i]
            yield detection

    came = []  # (frames of the track, frames seen)
    for track in place_choices(choices(watched(looks), FPS, TrackSettings()), 256, FPS, TrackSettings()):
        came.append((came[-1][0] + len(track) if came else len(track), given[0]))
    # 18 frames of look-ahead; no frame of a gap before the cut or the face ends it.
    assert came[:6] == [(16, 38), (32, 50), (48, 66), (64, 82), (80, 98), (96, 118)]
    assert came[-1] == (len(looks), len(looks))
    whole = track_faces(looks, 256, FPS)
    for cut_at in (40, 66, 97):
        for follows in ([seen()] * 40, [seen(face(x=320))] * 40, [seen(face(x=320), cut=True)] * 40):
            other = track_faces(looks[:cut_at] + follows, 256, FPS)
            known = max(frames for frames, after in [(0, 0), *came] if after <= cut_at)
            for name in TRACK_FIELDS:
                assert np.array_equal(getattr(other, name)[:known], getattr(whole, name)[:known])


def boxes(detections, settings):
    return [face and face.box for face in choose_faces(detections, FPS, settings).faces]


def test_the_chosen_face():
    small, large, middle = face(x=100, size=60), face(x=300, size=120), face(x=500, size=90)
    detections = [seen(large, middle, small)] * 3

    def first(which):
        return boxes(detections, TrackSettings(which=which))[0]

    assert first("largest") == large.box
    assert [first(f"index:{k}") for k in range(3)] == [small.box, large.box, middle.box]
    assert first("nearest:480,210") == middle.box
    assert boxes(detections, TrackSettings(which="index:3")) == [None] * 3


def test_the_followed_face_is_kept_when_another_grows():
    mine = [face(x=200 + 3 * i, size=100) for i in range(20)]
    other = [face(x=600 - 3 * i, size=80 + 4 * i) for i in range(20)]
    both = [seen(a, b) for a, b in zip(mine, other, strict=True)]
    assert boxes(both, TrackSettings()) == [face.box for face in mine]
    published = boxes(both, TrackSettings(published=True))
    assert published[0] == mine[0].box and published[-1] == other[-1].box


def test_someone_else_in_the_same_place_after_a_cut_is_not_similar():
    def dressed(k, x):
        return face(x=x, appearance=np.eye(3)[k])

    detections = [seen(dressed(0, 200), dressed(1, 500))] * 5 + [seen(dressed(1, 200), cut=True)] * 1
    detections += [seen(dressed(1, 200))] * 30 + [seen(dressed(1, 200), dressed(0, 500), cut=True)] * 5
    chosen = boxes(detections, TrackSettings(which="similar"))
    assert [box and box[0] for box in chosen] == [150.0] * 5 + [None] * 31 + [450.0] * 5
    kept = choose_faces(detections, FPS, TrackSettings(which="similar")).faces
    assert all(f is None or f.appearance is None for f in kept)  # a long clip's would fill the memory
    with pytest.raises(ValueError, match="not described"):
        choose_faces([seen(face()), seen(face())], FPS, TrackSettings(which="similar"))


@pytest.mark.parametrize(("kind", "same"), [("embedding", 0.3), ("appearance", 0.75)])
def test_how_alike_one_person_is(kind, same):
    def alike(cosine):
        other = 2 * np.array([cosine, np.sqrt(1 - cosine**2)])
        clip = [seen(face(**{kind: np.array([1.0, 0.0])})), seen(face(**{kind: other}))]
        return choose_faces(clip, FPS, TrackSettings(which="similar")).faces[1] is not None

    assert alike(same + 0.01) and not alike(same - 0.01)


@pytest.mark.parametrize(("jump", "frames_after", "found"), [(4.1, 10, [10]), (3.9, 10, []), (9, 3, [10]), (9, 2, [])])
def test_a_jump_is_4_times_the_usual_step_and_lasts_3_frames(jump, frames_after, found):
    x = np.arange(10.0 + frames_after)
    x[10:] += jump - 1
    path = np.stack([x, np.zeros_like(x)], 1)
    assert jumps(path, 2) == found and jumps(path[::-1], 2) == ([] if not found else [frames_after])
    assert jumps(path, 2 + jump) == []


def test_no_face_at_all_is_an_error_that_says_what_was_asked():
    with pytest.raises(ValueError, match=r"no frame of the clip's 7 shows the face asked for \(largest\)"):
        track_faces([seen()] * 7, 256, FPS)
    for which in ("biggest", "index:-1", "index:x", "nearest:3", "largest:2"):
        with pytest.raises(ValueError, match=f"'{which}': give largest, similar"):
            track_faces([seen(face())], 256, FPS, TrackSettings(which=which))


def test_a_track_follows_the_order_of_the_frames():
    cuts = np.array([False, False, True, False])
    track = FaceTrack(np.arange(24.0).reshape(4, 2, 3), np.ones(4), np.arange(4.0), cuts, 256)
    there_and_back = track.take([0, 1, 2, 3, 2, 1, 0, 1])
    assert there_and_back.score.tolist() == [0, 1, 2, 3, 2, 1, 0, 1]
    assert there_and_back.cuts.tolist() == [False, False, True, False, False, True, False, False]
    assert track.take([2, 3, 0]).cuts.tolist() == [False, False, True]  # a loop's wrap
    assert not track.take([3, 3, 3]).cuts.any()


def test_bridge_takes_the_short_way_round():
    path = bridge(np.array([0.0, 3.0]), np.array([10.0, -3.0]), 10)
    assert np.allclose(path[:, 0], np.arange(1, 11))
    assert path[4, 1] == pytest.approx(np.pi, abs=1e-6)


def test_smoothing_keeps_parabolas_and_short_paths():
    t = np.arange(50.0)
    path = np.stack([t, 0.1 * t**2], axis=1)
    assert np.abs(smooth(path, 3.0) - path).max() < 1e-4
    assert np.array_equal(smooth(path, 0), path) and np.array_equal(smooth(path[:2], 3.0), path[:2])


def test_smoothing_is_a_robust_regression_with_gaussian_weights():
    """The values were once found right; the window, the rounds and the weight of outliers make them."""
    path = np.array([0.0, 1, 0, 9, 2, 1, 3, 2, 5, 4, 3, 6])[:, None]
    known = [0.00091, 0.80801, 1.50984, 1.87243, 1.99756, 2.12906, 2.44445, 2.95556, 3.53248, 3.99796, 4.49315, 5.51366]
    np.testing.assert_allclose(smooth(path, 2.0).ravel(), known, atol=1e-4)


@pytest.mark.parametrize("name, count", [("demo1_video.mp4", 120), ("demo3_video.mp4", 120)])
def test_steadier_than_published_on_a_real_clip(name, count, capsys):
    from latentsync.face.detect import load_detector
    from latentsync.face.shots import detect_faces
    from latentsync.frames import FrameView
    from latentsync.media import VideoReader

    with VideoReader(media_file(name)) as reader:
        frames = FrameView(reader, range(count))
        detector = load_detector("yunet", model=FOLDER / "face_detection_yunet.onnx")
        detections = list(detect_faces(frames, detector))
        fps = float(reader.fps)
    ours = track_faces(detections, 256, fps).jitter()
    published = track_faces(detections, 256, fps, TrackSettings(published=True)).jitter()
    with capsys.disabled():
        print(f"\n{name}: crop jitter {ours:.2f} px, {published:.2f} px with the published smoothing")
    assert ours < 0.6 * published
