"""The pack as a whole: how it loads, and the rules that every node keeps."""

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfy_api.latest import ComfyExtension, io

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "comfy_stubs"
NODE_FILES = sorted((ROOT / "nodes").glob("*.py"))
# Widgets by position, as saved workflows have them: a new one goes to the end of its node, none is ever moved.
WIDGETS = json.loads((Path(__file__).parent / "widgets.json").read_text(encoding="utf-8"))
IDS = sorted(WIDGETS)
SMALL_WORDS = {"a", "and", "by", "for", "from", "in", "of", "on", "the", "to", "with"}


def is_node(tree: ast.AST) -> bool:
    return isinstance(tree, ast.ClassDef) and [ast.unparse(base) for base in tree.bases] == ["io.ComfyNode"]


def test_comfyui_gets_every_node_from_the_entrypoint(pack):
    assert sorted(pack.classes) == IDS
    assert not hasattr(pack.package, "NODE_CLASS_MAPPINGS"), "ComfyUI would not ask the entrypoint any more"
    assert issubclass(pack.nodes.extension.LatentSyncExtension, ComfyExtension)
    assert (ROOT / pack.package.WEB_DIRECTORY).is_dir()


def test_an_entrypoint_that_fails_says_where(pack, monkeypatch, caplog):
    monkeypatch.delattr(pack.nodes.extension, "LatentSyncExtension")
    with pytest.raises(ImportError):
        asyncio.run(pack.package.comfy_entrypoint())
    assert "LatentSyncExtension" in caplog.text and "Traceback" in caplog.text


def test_the_package_imports_nothing_until_it_is_asked():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("node_id", IDS)
def test_schema_says_everything(pack, node_id):
    schema = pack.node(node_id).GET_SCHEMA()
    assert schema.node_id == node_id and schema.category.startswith("LatentSync/")
    words = [word for word in schema.display_name.split() if word not in SMALL_WORDS]
    assert all(word[0].isupper() for word in words), f"{schema.display_name!r} is not in title case"
    assert len(schema.description) > 20 and schema.description.endswith(".")
    assert all(put.tooltip for put in [*schema.inputs, *(schema.outputs or [])])
    assert all(put.display_name for put in schema.outputs or []), "an output shows its type instead of a name"
    assert all(put.id.isidentifier() and put.id == put.id.lower() for put in schema.inputs)
    code = inspect.unwrap(pack.node(node_id).execute.__func__).__code__
    names = set(code.co_varnames[1 : code.co_argcount])
    takes_any = bool(code.co_flags & inspect.CO_VARKEYWORDS)
    assert takes_any or names == {put.id for put in schema.inputs}


@pytest.mark.parametrize("node_id", IDS)
def test_widgets_stay_where_saved_workflows_have_them_and_have_sound_defaults(pack, node_id):
    inputs = sorted(pack.node(node_id).GET_SCHEMA().inputs, key=lambda put: put.optional)
    widgets = [put for put in inputs if isinstance(put, io.WidgetInput)]
    assert [put.id for put in widgets] == WIDGETS[node_id]
    for put in widgets:
        if put.io_type == "COMBO":
            assert put.options and (put.default is None or put.default in put.options), put.id
        else:
            assert put.default is not None, f"{put.id} has no default"
        if put.io_type in ("INT", "FLOAT"):
            assert put.min <= put.default <= put.max, put.id


def test_widgets_of_options_have_the_limits_of_the_settings(pack):
    """A sample of the table; a widget's limits are narrower where the settings' have no end."""
    video = {put.id: put for put in pack.node("LatentSyncVideo").GET_SCHEMA().inputs}
    facts = {name: (put.default, put.min, put.max, put.step) for name, put in video.items() if hasattr(put, "min")}
    assert facts["steps"] == (20, 1, 500, None) and facts["guidance"] == (1.5, 0.0, 10.0, 0.1)
    assert facts["seed"] == (1247, 0, 2**64 - 1, None) and video["seed"].control_after_generate
    assert facts["window"] == (16, 1, 240, None) and facts["max_gap"] == (0.5, 0.0, 60.0, 0.01)
    assert facts["mask_smooth"] == (0.5, 0.0, 1.0, 0.05) and facts["crf"] == (16, 0, 51, None)
    assert video["deep_cache"].optional and not video["steps"].optional
    assert video["sampler"].options == ["ddim", "dpm++", "unipc", "euler"]


def test_newer_cores_fold_away_what_is_seldom_turned_find_the_nodes_and_keep_the_seed(pack, monkeypatch):
    """0.3.64 passes over the attributes that carry the first two, and has no word for the third."""
    schema = pack.node("LatentSyncVideo").GET_SCHEMA()
    shown = [put.id for put in schema.inputs if isinstance(put, io.WidgetInput) and not put.advanced]
    assert shown == ["steps", "guidance", "seed", "face", "quality"]
    assert {"lipsync", "talking head", "dubbing", "wav2lip", "latentsync wrapper"} <= set(schema.search_aliases)
    match = pack.node("LatentSyncMatchLength").GET_SCHEMA()
    assert [put.id for put in match.inputs if put.advanced] == ["silent_padding"]
    monkeypatch.setattr(io, "ControlAfterGenerate", SimpleNamespace(fixed="fixed"), raising=False)
    seed = next(put for put in pack.node("LatentSyncSampler").GET_SCHEMA().inputs if put.id == "seed")
    assert seed.control_after_generate == "fixed"


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_nodes_keep_the_rules_of_the_source(path):
    """The Manager reads node ids off the source: a literal, in a class that derives from io.ComfyNode itself. A class
    has methods of the class and no state; ComfyUI is known through runtime and its like alone; and since ComfyUI's
    cancel is an Exception, nobody catches all of them.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if is_node(node)]
    for node in nodes:
        (schema,) = [c for c in ast.walk(node) if isinstance(c, ast.Call) and ast.unparse(c.func) == "io.Schema"]
        given = {keyword.arg: keyword.value for keyword in schema.keywords}
        assert isinstance(given["node_id"], ast.Constant) and given["node_id"].value in IDS
        for part in node.body[ast.get_docstring(node) is not None :]:
            assert isinstance(part, ast.FunctionDef), f"{node.name}: {ast.unparse(part)}"
            assert [ast.unparse(d) for d in part.decorator_list] == ["classmethod"], f"{node.name}.{part.name}"
    for part in ast.walk(tree):
        assert not isinstance(part, ast.Global)
        names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
        if isinstance(part, ast.ImportFrom) and part.level == 0:
            names = [part.module]
        tops = {name.split(".")[0] for name in names}
        assert "latentsync" not in tops, "the pack is loaded by its path: another one may own that name"
        assert not nodes or not tops & {"comfy", "folder_paths", "server", "nodes", "execution"}, ast.unparse(part)
        if isinstance(part, ast.ExceptHandler):
            caught = ast.unparse(part.type) if part.type else "everything"
            raises = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(part))
            assert raises or caught not in ("everything", "Exception", "BaseException"), f"line {part.lineno}"


@pytest.mark.parametrize("node_id", IDS)
def test_every_node_has_a_help_page_and_is_translated(pack, node_id):
    schema = pack.node(node_id).GET_SCHEMA()
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    for put in [*schema.inputs, *(schema.outputs or [])]:
        # The second column, as the sidebar shows no more.
        assert re.search(rf"^\| [^|]+ \| {re.escape(put.tooltip)} \|", page, re.M), f"the help page on {put.id}"
    assert all(put.id in page for put in schema.inputs)
    for picture in re.findall(r"\]\(images/([^) ]+)", page):
        assert (ROOT / "web" / "docs" / "images" / picture).is_file(), picture
    for language in ("en", "zh"):
        texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]
        names = {put.id for put in schema.inputs}
        assert set(texts.get("outputs", {})) == {str(i) for i in range(len(schema.outputs or []))}
        if language == "zh":
            assert texts["display_name"] and set(texts["inputs"]) == names
        else:  # an option's words are those of the settings, and nowhere else
            assert texts["display_name"] == schema.display_name and set(texts["inputs"]) <= names
            here = {put.id: put.tooltip for put in schema.inputs if put.id in texts["inputs"]}
            assert here == {name: text["tooltip"] for name, text in texts["inputs"].items()}


NAMES = re.compile(r"[\d.]+|b?f?p?16|fp32|ddim|dpm\+\+|unipc|euler|yunet|insightface|facexlib|centerface")


def test_what_the_page_shows_is_translated(pack):
    """Values of combos but for names, titles and notes of workflows, and the words of the player."""
    inputs = [put for node in pack.classes.values() for put in node.GET_SCHEMA().inputs]
    shown = {value for put in inputs if put.io_type == "COMBO" for value in put.options}
    shown = {value for value in shown if not NAMES.fullmatch(value)}
    for path in ROOT.glob("workflows/*.json"):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        titles = [thing.get("title") for thing in workflow["groups"] + workflow["nodes"]]
        shown |= {title.lstrip("0123456789 ") for title in titles if title}
        notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
        shown |= {node["widgets_values"][0].splitlines()[0] for node in notes}
    template = (ROOT / "web" / "js" / "player_template.js").read_text(encoding="utf-8")
    shown |= set(re.findall(r'(?:title|aria-label)="([^"]+)"', template) + re.findall(r">([A-Z][^<$]+)<", template))
    player = (ROOT / "web" / "js" / "player.js").read_text(encoding="utf-8")
    shown |= set(re.findall(r"'([A-Z][a-z]+ [^'\n]+|Play|Pause)'", player))
    words = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))["latentsync"]
    assert shown - set(words) == set()
    assert set(words) - shown == {"Click on a face to follow it from the start of each shot"}


def test_every_node_appears_in_a_workflow():
    files = [json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("workflows/*.json")]
    shown = {node["type"] for workflow in files for node in workflow["nodes"]}
    # They stand where Lip Sync Video does, where two chains do, and where a mask comes from; the last needs a download.
    assert shown >= set(IDS) - {"LatentSyncFrames", "LatentSyncSpeaker", "LatentSyncSegmentOcclusions"}


LOAD = """
import asyncio, importlib.util, json, os, sys
sys.path.insert(0, {stubs!r})
import av, comfy.model_patcher, comfy.ops, comfy.utils, comfy_api.latest, safetensors.torch, torch  # ComfyUI has them
import cv2  # sets variables for itself
paths, variables = list(sys.path), dict(os.environ)
spec = importlib.util.spec_from_file_location("/x/custom_nodes/pack", {root!r} + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
assert sys.path == paths and dict(os.environ) == variables
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
HEAVY = {
    "accelerate", "diffusers", "facexlib", "gradio", "insightface", "kornia", "lpips", "matplotlib", "onnxruntime",
    "scipy", "spandrel", "torchvision", "transformers", "whisper",
}  # fmt: skip


def test_loading_is_cheap_and_changes_nothing(tmp_path):
    code = LOAD.format(stubs=str(STUBS), root=str(ROOT))
    # Elsewhere, so that nothing is found because of the current directory.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout.splitlines()[-1])
    assert not set(names) & HEAVY and "latentsync" not in names
    assert not list(tmp_path.iterdir())
