"""What `comfy node publish` packs: complete for the nodes, small, and free of what scanners of node packs flag."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = {"__main__.py", "drawn", "prepare", "train", "ui"}  # of the library
# (file, what it does): why it stays.
ALLOWED = {
    ("latentsync/models/download.py", "requests"): "fetches models where a person asks for it, and nowhere else",
}
MODULES = {
    "aiohttp", "ctypes", "ftplib", "http.client", "httpx", "marshal", "pip", "pty", "requests", "smtplib", "socket",
    "subprocess", "telnetlib", "urllib.request", "urllib3", "webbrowser",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "os.execv", "os.execve", "os.fork", "os.popen", "os.posix_spawn",
    "os.putenv", "os.removedirs", "os.startfile", "os.system", "os.unsetenv", "pickle.load", "pickle.loads",
    "shutil.rmtree", "site.addsitedir", "sys.path.append", "sys.path.insert",
}  # fmt: skip
CHANGES = {"clear", "pop", "popitem", "setdefault", "update"}  # methods of os.environ


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a checkout: what is tracked is not known")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def archive() -> list[str]:
    """The tracked files that .comfyignore, which is written like .gitignore, does not name."""
    if not shutil.which("git"):
        pytest.skip("no git")
    ignored = git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore")
    return sorted(set(git("ls-files")) - set(ignored))


def test_it_holds_the_pack_and_no_tests(archive):
    tops = {name.split("/")[0] for name in archive}
    assert tops == {
        "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "__init__.py", "install.py", "latentsync", "locales",
        "nodes", "pyproject.toml", "requirements.txt", "subgraphs", "web", "workflows",
    }  # fmt: skip
    assert not {name.split("/")[1] for name in archive if name.startswith("latentsync/")} & LEFT_OUT
    assert sum((ROOT / name).stat().st_size for name in archive) < 25e6


def test_no_module_imports_what_is_left_out(archive):
    """At the top or within a function."""
    modules = {name.removesuffix(".py").removesuffix("/__init__") for name in archive if name.endswith(".py")}
    for name in (name for name in archive if name.endswith(".py")):
        folder = Path(name).parent
        for part in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(part, ast.ImportFrom) and part.level and part.module:
                base = folder.parents[part.level - 2] if part.level > 1 else folder
                assert (base / part.module.replace(".", "/")).as_posix() in modules, f"{name}:{part.lineno}"


def flagged(tree: ast.AST):
    for part in ast.walk(tree):
        names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
        if isinstance(part, ast.ImportFrom) and not part.level:
            names = [part.module, *(f"{part.module}.{alias.name}" for alias in part.names)]
        yield from (name for name in names if name in MODULES or name in CALLS or name.split(".")[0] in MODULES)
        text = ast.unparse(part.func) if isinstance(part, ast.Call) else ""
        if text in CALLS or text.startswith("os.environ.") and text.split(".")[-1] in CHANGES:
            yield text
        if isinstance(part, ast.Subscript) and not isinstance(part.ctx, ast.Load):
            if ast.unparse(part.value) == "os.environ":
                yield "os.environ[...] ="


@pytest.mark.parametrize(
    "source",
    ["import subprocess", "from urllib import request", "eval(x)", "os.environ['A'] = 'b'", "del os.environ['A']",
     "os.environ.update(a)", "from shutil import rmtree", "shutil.rmtree(x)", "import http.client",
     "import pip._internal"],
)  # fmt: skip
def test_the_scan_finds_it(source):
    assert list(flagged(ast.parse(source)))


def test_the_scan_finds_nothing_else(archive):
    assert not list(flagged(ast.parse("os.environ.get('A'); os.environ['A']; re.compile('a'); model.eval()")))
    found = {
        (name, what)
        for name in archive
        if name.endswith(".py")
        for what in flagged(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    }
    assert found == set(ALLOWED)
