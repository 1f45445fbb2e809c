"""The pack in a real ComfyUI: it loads, everything it brings is served, and every workflow runs."""

import json
import re
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
from comfy_server import PACK, PYTHON, ROOT

STUBS = ROOT / "tests" / "comfy_stubs"
IDS = sorted(json.loads((ROOT / "tests" / "nodes" / "widgets.json").read_text(encoding="utf-8")))
WORKFLOWS = sorted(ROOT.glob("workflows/*.json"))

CONVERT = """
import json, sys
from comfy_cli.workflow_to_api import convert_ui_to_api
workflow, info = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:])
print(json.dumps(convert_ui_to_api(workflow, info)))
"""
CORE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import core_nodes
for node in core_nodes.NODES:
    s = node.GET_SCHEMA()
    print(json.dumps([s.node_id, {p.id: p.get_io_type() for p in s.inputs}, [o.io_type for o in s.outputs or []]]))
"""


def test_it_loads_without_complaint(shared_server):
    log = shared_server.log.split("got prompt")[0]  # runs of other tests end in errors on purpose
    line = next(line for line in log.splitlines() if line.rstrip().endswith(PACK) and " seconds" in line)
    assert "IMPORT FAILED" not in line
    assert "Traceback" not in log
    assert "Error while calling comfy_entrypoint" not in log and "Unable to parse pyproject" not in log


def test_every_node_is_there(shared_server):
    info = shared_server.get("/object_info")
    ours = {name: node for name, node in info.items() if node["python_module"] == f"custom_nodes.{PACK}"}
    assert sorted(ours) == IDS
    for name, node in ours.items():
        for inputs in node["input"].values():
            assert all(isinstance(spec[0], str | list) for spec in inputs.values()), name


@pytest.mark.parametrize("node_id", IDS)
def test_help_pages_are_served_with_their_pictures(shared_server, node_id):
    page = shared_server.get(f"/extensions/{PACK}/docs/{node_id}.md").decode("utf-8")
    assert page.startswith("#")
    for picture in re.findall(r"\]\((images/[^) ]+)", page):
        assert len(shared_server.get(f"/extensions/{PACK}/docs/{picture}")) > 500


def test_workflows_are_offered_as_templates_with_a_picture(shared_server):
    assert sorted(shared_server.get("/api/workflow_templates")[PACK]) == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        address = f"/api/workflow_templates/{PACK}/{path.stem}"
        assert shared_server.get(f"{address}.json")["nodes"]
        assert shared_server.get(f"{address}.jpg")[:2] == b"\xff\xd8"


def test_translations_are_served(shared_server):
    texts = shared_server.get("/i18n")
    assert set(texts["zh"]["nodeDefs"]) >= set(IDS) and set(texts["en"]["nodeDefs"]) >= set(IDS)


def test_the_page_loads_only_scripts_of_the_pack(shared_server):
    scripts = [path for path in shared_server.get("/extensions") if path.startswith(f"/extensions/{PACK}/")]
    assert f"/extensions/{PACK}/js/preview.js" in scripts
    for path in scripts:
        assert shared_server.get(path)


def test_a_missing_help_page_is_no_page(shared_server):
    with pytest.raises(urllib.error.HTTPError):
        shared_server.get(f"/extensions/{PACK}/docs/NoSuchNode.md")


def test_stand_ins_of_core_nodes_have_the_inputs_and_outputs_of_the_real_ones(shared_server):
    done = subprocess.run([sys.executable, "-c", CORE, str(STUBS)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for node_id, inputs, outputs in map(json.loads, done.stdout.splitlines()):
        real = shared_server.get(f"/object_info/{node_id}")[node_id]
        found = {
            name: spec[0] for part in ("required", "optional") for name, spec in real["input"].get(part, {}).items()
        }
        found = {name: "COMBO" if isinstance(kind, list) else kind for name, kind in found.items()}
        assert (inputs, outputs) == (found, real["output"]), node_id


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run(server, tmp_path, path):
    prompt = converted(server, tmp_path, path)
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 1
    run = server.run(prompt, seconds=500)
    files = [file for shown in run.outputs.values() for files in shown.values() for file in files]
    assert any(isinstance(file, dict) and file.get("type") == "output" for file in files)


def converted(server, folder: Path, path: Path) -> dict:
    """The workflow as a prompt, by comfy-cli."""
    (folder / "info.json").write_text(json.dumps(server.get("/object_info")), encoding="utf-8")
    command = [PYTHON, "-c", CONVERT, str(path), str(folder / "info.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "No module named 'comfy_cli'" in done.stderr:
        pytest.skip("comfy-cli is not installed")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
