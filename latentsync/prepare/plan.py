"""From settings and tools to the jobs of each item, and what is thought of their figures."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..detect import load_detector
from ..layout import find_checkpoints
from .align import Align, DetectorChoice
from .clip import Clip
from .manifest import Item
from .quality import Quality
from .read import Cuts, Read, import_scenedetect
from .settings import PrepareSettings, Tools
from .sources import Source, identity
from .sync_filter import Sync
from .work import Job, fingerprint

# The stages that are done by jobs. A number is raised when its stage computes something else than before, so that
# older outcomes of it are not taken.
VERSIONS = {"read": 1, "cuts": 1, "align": 1, "sync": 1, "quality": 1, "clip": 1}
DETECTOR_NAMES = {"InsightFace": "insightface", "YuNet": "yunet", "RetinaFace": "facexlib"}
NEEDED = {
    "sync": ("syncnet_v2", "auxiliary/syncnet_v2.model"),
    "quality": ("hyperiqa", "auxiliary/koniq_pretrained.pkl"),
}


def check_tools(settings: PrepareSettings, tools: Tools, sources: list[Source]) -> tuple[Tools, dict[str, Path]]:
    """The tools with the detector by its own name, and the weights of each stage that needs some.

    Raises:
        FileNotFoundError: weights, a detector's model or track files are not there; the sentence says how to get them.
        ImportError: PySceneDetect is not installed, or what the detector needs.
        ValueError: see `detect.load_detector`.
    """
    if "cuts" in settings.stages:
        import_scenedetect()
    # Workers may have another current folder.
    model = tools.detector_model and Path(tools.detector_model).absolute()
    tools = replace(tools, detector_model=model, checkpoints=Path(tools.checkpoints).absolute())
    found = find_checkpoints(tools.checkpoints)
    weights = {stage: getattr(found, name) for stage, (name, _) in NEEDED.items() if stage in settings.stages}
    if missing := [stage for stage, path in weights.items() if path is None]:
        files = " and ".join(str(Path(tools.checkpoints) / NEEDED[stage][1]) for stage in missing)
        raise FileNotFoundError(
            f"{files} not there, which {' and '.join(missing)} need: fetch with `python -m latentsync download --only "
            f"auxiliary --checkpoints {tools.checkpoints}`, or leave the stages out with --skip {','.join(missing)}"
        )
    if tools.detector == "file":
        _check_track_files(tools, sources)
        return tools, weights
    detector = load_detector(
        tools.detector, model=tools.detector_model, checkpoints=tools.checkpoints, device=tools.device
    )
    name = DETECTOR_NAMES.get(type(detector).__name__)
    if name is None:
        raise ValueError(f"{tools.detector_model} is for one video: give the detector file and a folder of track files")
    return replace(tools, detector=name), weights


def _check_track_files(tools: Tools, sources: list[Source]) -> None:
    folder = tools.detector_model
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"the detector file needs a folder of track files, and detector_model is {folder}: it holds NAME.json for "
            "each video NAME.mp4"
        )
    lacking = [source for source in sources if not _track_file(folder, source).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"{_track_file(folder, lacking[0])}: no such track file ({len(lacking)} are missing); write it with "
            "`python -m latentsync track`"
        )


def _track_file(folder: str | os.PathLike, source: Source) -> Path:
    return (Path(folder) / source.name).with_suffix(".json")


@dataclass
class Plan:
    """Makes the jobs of every item. `weights` are the files that `check_tools` found."""

    folder: Path
    settings: PrepareSettings
    tools: Tools
    weights: dict[str, Path]

    @property
    def work_folder(self) -> Path:
        return self.folder / "work"

    @property
    def clips_folder(self) -> Path:
        return self.folder / "clips"

    def make_folders(self) -> None:
        for folder in (self.clips_folder, self.work_folder / "read", self.work_folder / "align"):
            folder.mkdir(parents=True, exist_ok=True)

    def job(self, stage: str, item: Item) -> Job:
        """The job of this stage; for "clip", the item must have been through "sync" if that is run."""
        return {
            "read": self._read,
            "cuts": self._cuts,
            "align": self._align,
            "sync": self._sync,
            "quality": self._quality,
            "clip": self._clip,
        }[stage](item)

    def _read(self, item: Item) -> Job:
        sound = self._sound(item)
        return self._job("read", item, Read(item.source, sound), (sound,))

    def _cuts(self, item: Item) -> Job:
        threshold = self.settings.cut_threshold
        return self._job("cuts", item, Cuts(item.source, threshold), (), threshold)

    def _align(self, item: Item) -> Job:
        video, boxes = self._aligned(item)
        detector = DetectorChoice(
            self.tools.detector, self._detector_model(item), self.tools.checkpoints, self.tools.device
        )
        work = Align(
            item.source, item.start, item.stop, detector, self.settings.resolution, self.settings.crf, video, boxes
        )
        return self._job("align", item, work, (video, boxes), *self._align_facts(item))

    def _sync(self, item: Item) -> Job:
        weights = self.weights["sync"]
        boxes = self._aligned(item)[1]
        work = Sync(item.source, item.start, item.stop, boxes, self._sound(item), weights, self.tools.device)
        return self._job("sync", item, work, (), *self._detector_facts(item), identity(weights))

    def _quality(self, item: Item) -> Job:
        weights = self.weights["quality"]
        work = Quality(self._aligned(item)[0], weights, self.tools.device)
        return self._job("quality", item, work, (), *self._align_facts(item), identity(weights))

    def _clip(self, item: Item) -> Job:
        offset = item.figures.get("offset", 0)
        out = self.clips_folder / f"{item.label}.mp4"
        work = Clip(item.start, item.stop, offset, self._sound(item), self._aligned(item)[0], out)
        return self._job("clip", item, work, (out,), *self._align_facts(item), offset)

    def _job(self, stage: str, item: Item, work, files: tuple[Path, ...], *facts: object) -> Job:
        mark = fingerprint(stage, VERSIONS[stage], item.name, identity(item.source.path), *facts)
        return Job(stage, item.name, mark, work, files)

    def _detector_model(self, item: Item) -> Path | None:
        model = self.tools.detector_model
        return _track_file(model, item.source) if self.tools.detector == "file" else model

    def _detector_facts(self, item: Item) -> tuple:
        model = self._detector_model(item)
        return self.tools.detector, model and identity(model)

    def _align_facts(self, item: Item) -> tuple:
        return *self._detector_facts(item), self.settings.resolution, self.settings.crf

    def _sound(self, item: Item) -> Path:
        return self.work_folder / "read" / f"{item.source.label}.wav"

    def _aligned(self, item: Item) -> tuple[Path, Path]:
        folder = self.work_folder / "align"
        return folder / f"{item.label}.mp4", folder / f"{item.label}.npy"


def judge(stage: str, item: Item, settings: PrepareSettings) -> tuple[str, str] | None:
    """(reason, sentence) for dropping an item that has the figures of `stage`; None if it goes on."""
    figures = item.figures
    if stage == "face_size" and figures["face_size"] < settings.resolution:
        size = figures["face_size"]
        return "small_face", f"the face is {size:g} pixels wide, less than the resolution of {settings.resolution}"
    if stage == "sync" and figures["confidence"] < settings.min_confidence:
        return "low_confidence", f"SyncNet's confidence is {figures['confidence']:g}, under {settings.min_confidence:g}"
    if stage == "sync" and abs(figures["offset"]) > settings.max_offset:
        return "offset", f"the sound is {figures['offset']} frames off, over {settings.max_offset} either way"
    if stage == "quality" and figures["quality"] < settings.min_quality:
        return "low_quality", f"hyperIQA's score is {figures['quality']:g}, under {settings.min_quality:g}"
    return None
