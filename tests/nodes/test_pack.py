"""The pack as a whole: how it loads, and the rules that every node keeps."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_api.latest import ComfyExtension, io

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "comfy_stubs"
NODE_FILES = sorted((ROOT / "nodes").glob("*.py"))
# Widgets by position, as saved workflows have them: a new one goes to the end of its node, none is ever moved.
WIDGETS = json.loads((Path(__file__).parent / "widgets.json").read_text(encoding="utf-8"))
IDS = sorted(WIDGETS)
MOST_SECONDS = 0.3
SMALL_WORDS = {"a", "and", "by", "for", "from", "in", "of", "on", "the", "to", "with"}


def is_node(tree: ast.AST) -> bool:
    return isinstance(tree, ast.ClassDef) and [ast.unparse(base) for base in tree.bases] == ["io.ComfyNode"]


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in NODE_FILES}


def test_comfyui_gets_every_node_from_the_entrypoint(pack):
    assert sorted(pack.classes) == IDS
    assert not hasattr(pack.package, "NODE_CLASS_MAPPINGS"), "ComfyUI would not ask the entrypoint any more"
    assert issubclass(pack.nodes.extension.LatentSyncExtension, ComfyExtension)
    assert (ROOT / pack.package.WEB_DIRECTORY).is_dir()


def test_an_entrypoint_that_fails_says_where(pack, monkeypatch, caplog):
    import asyncio

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
    assert schema.node_id == node_id
    words = [word for word in schema.display_name.split() if word not in SMALL_WORDS]
    assert all(word[0].isupper() for word in words), f"{schema.display_name!r} is not in title case"
    assert schema.category.startswith("LatentSync/")
    assert len(schema.description) > 20 and schema.description.endswith(".")
    for put in (schema.inputs or []) + (schema.outputs or []):
        assert put.tooltip, f"{put.id} has no tooltip"
    for put in schema.inputs or []:
        assert put.id.isidentifier() and put.id == put.id.lower(), f"{put.id!r} is no name to write in a script"
    for put in schema.outputs or []:
        assert put.display_name, f"{put.id} shows its type instead of a name"


@pytest.mark.parametrize("node_id", IDS)
def test_execute_takes_the_inputs_by_name(pack, node_id):
    code = inspect.unwrap(pack.node(node_id).execute.__func__).__code__
    names = set(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    schema = pack.node(node_id).GET_SCHEMA()
    takes_any = bool(code.co_flags & 0x08)  # **kwargs
    assert takes_any or names == {put.id for put in schema.inputs or []}


@pytest.mark.parametrize("node_id", IDS)
def test_widgets_stay_where_saved_workflows_have_them(pack, node_id):
    inputs = sorted(pack.node(node_id).GET_SCHEMA().inputs or [], key=lambda put: put.optional)
    assert [put.id for put in inputs if isinstance(put, io.WidgetInput)] == WIDGETS[node_id]


@pytest.mark.parametrize("node_id", IDS)
def test_defaults_are_among_the_choices_and_within_the_range(pack, node_id):
    for put in pack.node(node_id).GET_SCHEMA().inputs or []:
        if not isinstance(put, io.WidgetInput) or put.io_type == "STRING":
            continue
        if put.io_type == "COMBO":
            assert put.options and (put.default is None or put.default in put.options), put.id
        else:
            assert put.default is not None, f"{put.id} has no default"
        if put.io_type in ("INT", "FLOAT"):
            assert put.min <= put.default <= put.max, put.id


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_nodes_are_found_by_reading_the_file(path):
    """The Manager reads node ids off the source: a literal, in a class that derives from io.ComfyNode itself."""
    for node in filter(is_node, trees()[path].body):
        schemas = [c for c in ast.walk(node) if isinstance(c, ast.Call) and ast.unparse(c.func) == "io.Schema"]
        assert len(schemas) == 1
        given = {keyword.arg: keyword.value for keyword in schemas[0].keywords}
        assert isinstance(given["node_id"], ast.Constant) and given["node_id"].value in IDS


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_nodes_hold_no_state(path):
    """A node's class has methods of the class and nothing else: ComfyUI keeps results, the node keeps none."""
    for node in filter(is_node, trees()[path].body):
        for part in node.body:
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                continue  # the docstring
            assert isinstance(part, ast.FunctionDef), f"{node.name}: {ast.unparse(part)}"
            assert [ast.unparse(d) for d in part.decorator_list] == ["classmethod"], f"{node.name}.{part.name}"
        assert not [n for n in ast.walk(node) if isinstance(n, ast.Global)]


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_modules_of_nodes_know_comfyui_only_through_runtime(path):
    tree = trees()[path]
    if not any(map(is_node, tree.body)):
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        tops = {name.split(".")[0] for name in names}
        assert not tops & {"comfy", "folder_paths", "server", "nodes", "execution", "latentsync"}, ast.unparse(node)


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_no_error_is_swallowed_with_the_cancel(path):
    """ComfyUI's cancel is an Exception: whoever catches all of them turns it into a success."""
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            raises = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
            assert raises or caught not in ("everything", "Exception", "BaseException"), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("node_id", IDS)
def test_every_node_has_a_help_page(pack, node_id):
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    for put in pack.node(node_id).GET_SCHEMA().inputs or []:
        assert f"{put.id}" in page, f"the help of {node_id} does not tell what {put.id} is"
    for line in page.splitlines():
        if "](images/" in line:
            picture = line.split("](images/")[1].split(")")[0].split()[0]
            assert (ROOT / "web" / "docs" / "images" / picture).is_file(), picture


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("node_id", IDS)
def test_every_node_is_translated(pack, node_id, language):
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]
    schema = pack.node(node_id).GET_SCHEMA()
    assert texts["display_name"]
    assert set(texts.get("outputs", {})) == {str(i) for i in range(len(schema.outputs or []))}
    names = {put.id for put in schema.inputs or []}
    if language == "zh":
        assert set(texts["inputs"]) == names
        return
    # An option's words are those of the settings, and nowhere else.
    assert set(texts["inputs"]) <= names and texts["display_name"] == schema.display_name
    assert all(put.tooltip == texts["inputs"].get(put.id, {}).get("tooltip", put.tooltip) for put in schema.inputs)
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    for put in [*(schema.inputs or []), *(schema.outputs or [])]:
        assert f" {put.tooltip} |" in page, f"the help page says something else of {put.id}"


def test_every_node_appears_in_a_workflow():
    files = [json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("workflows/*.json")]
    assert {node["type"] for workflow in files for node in workflow["nodes"]} >= set(IDS)


LOAD = """
import asyncio, importlib.util, json, os, sys, time
sys.path.insert(0, {stubs!r})
import av, comfy.model_patcher, comfy.ops, comfy.utils, comfy_api.latest, safetensors.torch, torch  # ComfyUI has them
begun = time.process_time()
import cv2  # sets variables for itself
paths, variables = list(sys.path), dict(os.environ)
spec = importlib.util.spec_from_file_location("/x/custom_nodes/pack", {root!r} + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
seconds = time.process_time() - begun
assert sys.path == paths and dict(os.environ) == variables
print(json.dumps([seconds, sorted({{name.split(".")[0] for name in sys.modules}})]))
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
    seconds, names = json.loads(done.stdout.splitlines()[-1])
    # Of the processor, not of the clock: the machine may have other work.
    assert seconds < MOST_SECONDS
    assert not set(names) & HEAVY
    assert "latentsync" not in names, "the pack is loaded by its path: another one may own that name"
    assert not list(tmp_path.iterdir())
