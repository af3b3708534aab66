"""The directions of dependency, and the few rules of form that a machine can hold."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fcacli"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {
    "cli": 3,
    "workflows": 2,
    **dict.fromkeys(("training", "prediction", "evaluation", "data", "model", "mini", "planning"), 1),
    **dict.fromkeys(("config", "workspace", "errors", "events", "libraries"), 0),
}
FORBIDDEN = {
    "model": {"data", "training"},
    "evaluation": {"model", "training"},
    "training": {"prediction"},
    "prediction": {"training"},
    "errors": {"config", "workspace", "events"},
    "events": {"config", "workspace", "errors"},
    "libraries": {"config", "workspace", "errors", "events"},
}
HEAVY = (
    *("torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes"),
    *("numpy", "cv2", "av", "pyarrow", "tensorboard"),
)
TRACKED = (
    "fcacli",
    "tests",
    "completions",
    "pyproject.toml",
    "CHANGELOG.md",
    "README.md",
    "LICENSE",
    ".ci",
    ".github",
    ".gitignore",
)


def unit(path: Path) -> str:
    """The part of the package that a file belongs to: its folder below fcacli/, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names that a file imports, also inside functions; relative imports are resolved."""
    package = ["fcacli", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_units(path: Path) -> set[str]:
    """The other parts of the package that a file imports."""
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("fcacli.")}
    return parts & set(LEVELS) - {unit(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    here = unit(path)
    if here in ("__init__", "__main__"):
        return
    assert here in LEVELS, f"a new part of the package: give {here} a level here"
    for there in own_units(path):
        assert LEVELS[there] <= LEVELS[here], f"{here} imports {there}"
        assert there not in FORBIDDEN.get(here, ()), f"{here} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_command_line_knows_typer_and_rich(path):
    names = {name.split(".")[0] for name in imported(path)}
    if unit(path) != "cli":
        assert not names & {"typer", "rich"}
    assert "click" not in names
    assert not [name for name in imported(path) if name.startswith("typer._")]


def test_core_prints_nothing():
    for path in MODULES:
        if unit(path) not in ("cli", "mini"):
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert "print" not in calls, f"{path} prints; report an event instead"


def test_readers_do_not_import_torch():
    for path in (PACKAGE / "data" / "readers").glob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"torch", "diffusers", "transformers"}
    assert "torch" not in loaded_by("import fcacli.data.readers")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["train", "--help"], ["plan", "--help"], ["predict", "--help"]],
)
def test_help_loads_none_of_the_heavy_modules(arguments):
    code = f"from fcacli.cli.app import app; app({arguments!r}, standalone_mode=False)"
    assert not set(HEAVY) & loaded_by(code)


def test_completions_do_not_load_torch():
    assert "torch" not in loaded_by("from fcacli.cli.completions import script; script('zsh')")


def loaded_by(code: str) -> set[str]:
    """Top-level modules loaded after running `code` in a fresh interpreter."""
    script = f"""
import io, json, sys
out, sys.stdout = sys.stdout, io.StringIO()
try:
    {code}
except SystemExit:
    pass
json.dump(sorted({{name.split('.')[0] for name in sys.modules}}), out)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    assert path.stem not in ("utils", "util", "common", "helpers", "misc")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a file begins with a sentence on its purpose"


def test_nothing_names_a_path_of_one_machine():
    homes = ["/" + name + "/" for name in ("work", "root", "home", "Users", "workspace", "mnt")]
    for path in files_of_the_project():
        if path.suffix in (".safetensors", ".png", ".jpg", ".gif", ".mp4", ".webm", ".model"):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = [home for home in homes if home in text.replace("https://", "")]
        assert not found or path == Path(__file__), f"{path} names {found}"


def test_top_level_holds_only_what_belongs_there():
    assert {path.relative_to(ROOT).parts[0] for path in files_of_the_project()} <= set(TRACKED)


def files_of_the_project() -> list[Path]:
    """Files that git tracks; all below the package and tests where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT)
    if done.returncode == 0 and done.stdout:
        return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    return [
        path
        for folder in ("fcacli", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
