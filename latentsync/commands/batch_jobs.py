"""Many lip syncs in one go: rows of video, voice and options of `run`, done by one or many processes."""

import argparse
import csv
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from ..errors import FileError, InputError
from ..face.detect import load_detector
from ..face.landmarks import Detector, Face
from ..face.track_file import FaceFile
from ..files import JsonLines, file_version, make_folder, reading, replacing, sweep_parts
from ..media.output import container_format
from ..media.source import VIDEO_SUFFIXES
from ..models.embedded import EMBEDDED, choose_folder
from ..models.folders import Checkpoints
from ..models.load import needed_checkpoints
from ..pipelines.lip_sync import Progress, Summary, lip_sync
from ..pipelines.options import (
    CHECKPOINTS,
    FILES,
    NETS,
    RUN,
    chosen_detector,
    chosen_resolution,
    explained,
    load_nets,
    named_device,
    options_of,
    own_folder,
    refuse_idle_options,
    restore_settings,
    restorer_file,
    run_parser,
    run_settings,
)
from ..prepare import executor as executors
from ..prepare.executor import Outcome, fingerprint
from ..progress import Bar
from ..settings import Option
from .prepare import chosen_executor

logger = logging.getLogger(__name__)

MANIFEST, FACES = "manifest.jsonl", "faces"  # in the output folder
MOST_FAILED = 125  # that an exit code tells: from 126 on codes mean other things to shells
DEEP_CACHE = "enable_deepcache"  # the one option of run that is not in its table: the published word for deep_cache 3
COLUMNS = {"video": "video_path", "audio": "audio_path", "out": "video_out_path"}  # what run calls them
AUDIO_SUFFIXES = {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
NO_PATHS = {"device", "face", "video_out_path"}  # options whose words are not looked for as files
NO_MATTER = {"device", "resume", "video_out_path"}  # options on which the pixels do not depend


@dataclass(frozen=True)
class Row:
    """One lip sync."""

    name: str  # what the user calls it
    arguments: argparse.Namespace  # as `run` takes them, with absolute paths
    key: str  # a hash of all that its pixels depend on
    faces: Path  # folder where the faces of each video are remembered

    @property
    def files(self) -> tuple[str, str, str]:
        return self.arguments.video_path, self.arguments.audio_path, self.arguments.video_out_path

    def line(self, outcome: Outcome) -> dict[str, object]:
        """Its line in the manifest."""
        files = dict(zip(("video", "audio", "output"), self.files, strict=True))
        how = {"status": outcome.reason or "done", "error": outcome.sentence or None, **outcome.figures}
        return {"row": self.name, **files, **how, "key": self.key, "version": file_version(self.files[2])}

    def is_done(self, line: dict | None) -> bool:
        """Whether `line`, the manifest's last one of this output, speaks of this row and of the file that is there."""
        told = line is not None and line.get("status") == "done" and line.get("key") == self.key
        return told and line.get("version") == file_version(self.files[2])


def run_batch(arguments: argparse.Namespace) -> int:
    """Do all rows that are not done yet; gives the number of those that failed, at most `MOST_FAILED`."""
    out = Path(arguments.out).absolute()
    rows = read_rows(Path(arguments.jobs).absolute(), out, arguments)
    executor = chosen_executor(arguments)
    for folder in (out / FACES, *(Path(row.files[2]).parent for row in rows)):
        make_folder(folder)
    failed = []
    with JsonLines(out / MANIFEST) as manifest:
        # A power cut can leave lines of any kind.
        known = {str(line.get("output")): line for line in manifest.values if isinstance(line, dict)}
        waiting = [row for row in rows if not row.is_done(known.get(row.files[2]))]
        done = before = len(rows) - len(waiting)
        try:
            with Bar("row") as bar, executor:
                bar("rows", done, len(rows))
                work = perform
                if isinstance(executor, executors.InProcess):
                    work = partial(perform, progress=lambda share: bar("rows", done + len(failed) + share, len(rows)))
                for some in _in_turn(waiting):
                    for row, outcome in executor.results(some, work):
                        manifest.append(row.line(outcome))
                        done += outcome.reason is None
                        failed += [f"{row.name}: {outcome.sentence}"] if outcome.reason else []
                        bar("rows", done + len(failed), len(rows))
        except KeyboardInterrupt as interrupt:
            how = interrupt if interrupt.args else "run the same command again to resume"
            raise KeyboardInterrupt(f"{done} of {len(rows)} rows are done; {how}") from interrupt
        finally:
            for path in (out / FACES, *(row.files[2] for row in waiting)):
                sweep_parts(path)  # of workers, which are ended without being asked
    head = f"{done} of {len(rows)} rows are done ({before} were before), {len(failed)} failed; see {out / MANIFEST}"
    print("\n".join([head, *failed]))
    return min(len(failed), MOST_FAILED)


def _in_turn(rows: list[Row]) -> list[list[Row]]:
    """First a row of each video, which finds its faces, then those that find them there; a model's rows together."""
    rows = sorted(rows, key=lambda row: str([row.arguments.checkpoints, row.arguments.resolution, row.arguments.dtype]))
    first = {(row.arguments.video_path, row.arguments.fps): row.name for row in reversed(rows)}
    first = set(first.values())
    return [[row for row in rows if row.name in first], [row for row in rows if row.name not in first]]


def read_rows(jobs: Path, out: Path, options: argparse.Namespace) -> list[Row]:
    """The rows of a CSV file or a folder, all checked: the error has a line for each bad one.

    Results go to `out`. What `options`, those of the command, say of `run` holds where a row says nothing else.
    """
    if not jobs.exists():
        raise FileError(f"there is no CSV file or folder {jobs}: check the path")
    make = RowMaker(jobs if jobs.is_dir() else jobs.parent, out, options)
    rows, wrong = [], []
    for name, cells in _pairs(jobs) if jobs.is_dir() else _lines(jobs, make.check_columns):
        try:
            rows.append(make(name, cells))
        except InputError as error:
            wrong.append(f"{name}: {error}")
    users = {os.path.realpath(path): "the input" for row in rows for path in row.files[:2]}
    for row in rows:
        user = users.setdefault(os.path.realpath(row.files[2]), row.name)
        if user != row.name:
            wrong.append(f"{row.name}: its output {row.files[2]} is also that of {user}: give another one as out")
    if wrong:
        raise InputError("\n".join([f"nothing was started, since rows of {jobs} are wrong", *wrong]))
    if not rows:
        raise InputError(f"{jobs} has no rows: give a CSV file with some, or a folder with a.mp4 and a.wav")
    return rows


def _pairs(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, cells by column) of the videos in a folder and the voices of the same name."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    voices = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    pairs = [(video, voice) for video in videos for voice in voices if video.stem == voice.stem]
    if alone := len({*videos, *voices} - {path for pair in pairs for path in pair}):
        logger.info("%d videos and voices in %s are left out: there is no other one of their name", alone, folder)
    for video, voice in pairs:
        yield f"{video.name} with {voice.name}", {"video": str(video), "audio": str(voice)}


def _lines(path: Path, check_columns: Callable[[list[str]], None]) -> Iterator[tuple[str, dict[str | None, str]]]:
    """(line, cells by column) of a CSV file, without the empty cells; cells beyond the columns are those of None."""
    try:
        with reading(path), path.open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [name.strip().replace("-", "_") for name in reader.fieldnames or ()]
            check_columns(reader.fieldnames)
            for cells in reader:
                texts = {column: str(text or "").strip() for column, text in cells.items()}
                yield f"line {reader.line_num}", {column: text for column, text in texts.items() if text}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not CSV text in UTF-8 ({error}): save it as that") from error


class RowMaker:
    """Makes rows out of cells by the parser of `run`, so that its types, limits and sentences hold."""

    def __init__(self, base: Path, out: Path, options: argparse.Namespace):
        self.base, self.out = base, out
        self.parser = run_parser(argparse.ArgumentParser(add_help=False))
        self.parser.error = _refuse
        self.options = {option.flag: option for option in options_of(FILES + RUN)}
        self.given = {name: value for name, value in vars(options).items() if name in (*self.options, "less_memory")}
        self.key_names = sorted(self.options.keys() - NO_MATTER)
        self.choose_folder, self.detectors = cache(choose_folder), Kept()
        self.check_device = cache(named_device) if options.executor == "local" else str

    def check_columns(self, columns: list[str]) -> None:
        known = self.options.keys() | COLUMNS.keys() | {DEEP_CACHE}
        for column in columns:
            if column not in known:
                raise InputError(f"line 1: there is no column {column!r}: give video, audio, out or an option of run")
            if columns.count(column) > 1:
                raise InputError(f"line 1: the column {column} is there twice: leave one out")

    def __call__(self, name: str, cells: dict[str | None, str]) -> Row:
        arguments = self._parse(cells)
        run_settings(arguments)
        restore_settings(arguments)
        refuse_idle_options(arguments)
        arguments.resolution, arguments.unet_config_path = chosen_resolution(arguments), None
        if arguments.inference_ckpt_path and arguments.checkpoints is None:
            arguments.checkpoints = str(Path(arguments.inference_ckpt_path).parent)
        for path in filter(None, (arguments.video_path, arguments.audio_path, arguments.upscaler)):
            if not os.path.isfile(path):
                raise FileError(f"there is no file {path}: check the path")
        container_format(arguments.video_out_path)
        weights = Path(self.choose_folder(arguments.checkpoints, CHECKPOINTS)).absolute()
        files = needed_checkpoints(weights, arguments.inference_ckpt_path)
        arguments.checkpoints = EMBEDDED.name if weights == EMBEDDED.absolute() else str(weights)
        if arguments.device:
            self.check_device(arguments.device)
        detector = chosen_detector(arguments, "cpu", self.detectors)
        return Row(name, arguments, self._key(arguments, files, detector), self.out / FACES)

    def _key(self, arguments: argparse.Namespace, files: Checkpoints, detector: Detector) -> str:
        """A hash of all that the pixels depend on: the options and every file that is read."""
        values = [getattr(arguments, name) for name in self.key_names]
        named = [value for value in values if isinstance(value, str) and os.path.isfile(value)]
        # Of Whisper the size is taken that fits the U-Net.
        whisper = [files.whisper, *(files.whisper.with_stem(size) for size in ("tiny", "small"))]
        restorer = [restorer_file(arguments.superres, own_folder(arguments))] if arguments.superres in NETS else []
        read = [*named, files.unet, files.vae, *whisper, *restorer, *_files(detector)]
        return fingerprint(self.key_names, values, type(detector).__name__, [file_version(path) for path in read])

    def _parse(self, cells: dict[str | None, str]) -> argparse.Namespace:
        """What a row and the command line say, with absolute paths; a row's are relative to the CSV's folder."""
        if None in cells:
            raise InputError(f"there are more cells than columns ({cells[None]}): put text with commas into quotes")
        arguments, words = argparse.Namespace(**self.given), []
        cells = {COLUMNS.get(column, column): text for column, text in cells.items()}
        for flag, text in cells.items():
            if flag == DEEP_CACHE or self.options[flag].kind is bool:
                if text.lower() not in FLAGS:
                    raise InputError(f"{flag} is {text!r}: give yes or no")
                if FLAGS[text.lower()]:
                    words.append(f"--{flag}")
                else:
                    switched = self.options["deep_cache" if flag == DEEP_CACHE else flag]
                    setattr(arguments, switched.flag, switched.default)
            else:
                words.append(f"--{flag}={self._path(self.options[flag], text)}")
        for column in ("video", "audio"):
            if COLUMNS[column] not in cells:
                raise InputError(f"{column} is missing: give a file")
        if "video_out_path" not in cells:
            stems = dict.fromkeys(Path(cells[name]).stem for name in ("video_path", "audio_path"))
            words.append(f"--video_out_path={'_'.join(stems)}.mp4")
        self.parser.parse_args(words, arguments)
        arguments.video_out_path = str(self.out / arguments.video_out_path)
        for option in self.options.values():
            value = getattr(arguments, option.flag, None)
            if isinstance(value, str) and _may_be_path(option) and os.path.exists(value):
                setattr(arguments, option.flag, os.path.abspath(value))  # workers may have another current folder
        return arguments

    def _path(self, option: Option, text: str) -> str:
        """A cell's text, or the path in the CSV's folder that it means."""
        there = _may_be_path(option) and (self.base / text).exists()
        return str(self.base / text) if there or option.flag in ("video_path", "audio_path") else text


def _may_be_path(option: Option) -> bool:
    return option.choices is None and option.flag not in NO_PATHS


def _files(detector: Detector) -> list[Path]:
    return [path for path in [getattr(detector, "path", None)] if path]


def _refuse(message: str) -> None:
    raise InputError(message)


class Kept:
    """Keeps the last thing that each loading function gave; it goes before another one comes. An `options.Keep`."""

    def __init__(self):
        self.last: dict[Callable, tuple] = {}

    def __call__(self, load: Callable) -> Callable:
        def load_or_take(*given, **named):
            if self.last.get(load, ())[:2] != (given, named):
                self.last.pop(load, None)
                self.last[load] = given, named, load(*given, **named)
            return self.last[load][2]

        return load_or_take


KEPT = Kept()  # between the rows that this process does


def perform(row: Row, progress: Callable[[float], None] = lambda share: None) -> Outcome:
    """Do a row in this process, calling `progress` with the share that is done."""
    start = time.perf_counter()
    try:
        summary = _lip_sync(row, lambda phase, done, total: progress(done / total if phase == "syncing" else 0.0))
    except Exception as error:  # whatever it is, the other rows go on; Ctrl-C is none
        figures, sentence = {}, explained(error, row.arguments.less_memory)
        if sentence is None:
            figures, sentence = {"traceback": traceback.format_exc()}, f"{type(error).__name__} (a bug): {error}"
    else:
        figures, sentence = {"frames": summary.frames, "frames_with_face": summary.frames_with_face}, ""
    seconds = round(time.perf_counter() - start, 2)
    return Outcome({"seconds": seconds, **figures}, "failed" if sentence else None, sentence)


def _lip_sync(row: Row, progress: Progress) -> Summary:
    arguments, gpus = argparse.Namespace(**vars(row.arguments)), torch.cuda.device_count()
    if arguments.device is None and gpus > 1:
        arguments.device = f"cuda:{executors.worker_number % gpus}"
    model, detector, superres = load_nets(arguments, KEPT)
    settings = replace(run_settings(arguments), superres=superres)
    how = {"resume": arguments.resume, "progress": progress}
    if isinstance(detector, FaceFile):
        return lip_sync(*row.files, model, detector, settings, **how)
    given, named, _ = KEPT.last[load_detector]
    named = sorted((name, str(value)) for name, value in named.items() if name != "device")
    versions = [file_version(path) for path in (row.files[0], *_files(detector))]
    key = fingerprint(row.files[0], versions, settings.fps, type(detector).__name__, given, named)
    remembered = Remembered(detector, row.faces / f"{key}.json")
    try:
        return lip_sync(*row.files, model, remembered, settings, **how)
    finally:
        remembered.save()


class Remembered:
    """A detector that keeps in a file what it has seen in each frame of a video.

    Faces and no finished track: how far a track goes, and so how it is smoothed, depends on the voice's length.
    """

    def __init__(self, detector: Detector, file: Path):
        self.detector, self.file = detector, file
        self.seen: dict[int, list[Face]] = {}
        try:
            known = json.loads(file.read_bytes()) if file.exists() else {}
            self.seen = {int(index): [_face(*values) for values in faces] for index, faces in known.items()}
        except (ValueError, TypeError, AttributeError) as error:
            logger.warning("%s is damaged (%s): the faces are looked for again", file, error)
        self.known = len(self.seen)

    def __call__(self, frame: np.ndarray, index: int) -> list[Face]:
        if index not in self.seen:
            self.seen[index] = self.detector(frame, index)
        return self.seen[index]

    def save(self) -> None:
        if len(self.seen) > self.known:
            faces = {index: [_values(face) for face in found] for index, found in self.seen.items()}
            with replacing(self.file) as part:
                part.write_text(json.dumps(faces), encoding="utf-8")


def _values(face: Face) -> list:
    """A face without its appearance, as JSON, exactly."""
    embedding = None if face.embedding is None else face.embedding.tolist()
    return [list(face.box), face.score, np.asarray(face.points, np.float64).tolist(), embedding]


def _face(box: list, score: float, points: list, embedding: list | None) -> Face:
    return Face(tuple(box), score, np.array(points), embedding and np.array(embedding, np.float32))
