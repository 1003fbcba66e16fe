"""A hook of mkdocs: the folders seen as the package `feederguard`, and its reference pages.

A sub-package has one page. The pages follow the folders, so a new file is in the reference without
a list to edit. Nothing is imported: mkdocstrings reads the source text.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
FOLDERS = ("models", "data", "baselines", "agents", "studies")  # along the import arrows


def on_startup(**_: Any) -> None:
    """Link the folders into build/view/feederguard, where mkdocstrings looks for the package."""
    view = ROOT / "build" / "view" / "feederguard"
    view.mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        link = view / folder
        if not link.is_symlink():
            link.symlink_to(Path("..") / ".." / ".." / folder)


def on_config(config: Any) -> Any:
    """Add the reference pages to the navigation."""
    pages = {folder: [{_name(one): _page(one)} for one in _packages(folder)] for folder in FOLDERS}
    sections = [{folder: inside} for folder, inside in pages.items()]
    config.nav.append({"Reference": ["reference/index.md", *sections]})
    return config


def on_page_content(html: str, **_: Any) -> str:
    """Name source files by their place in the repository."""
    return html.replace("build/view/feederguard/", "")


def on_files(files: Files, config: Any) -> Files:
    """Make the reference pages, and pages of two files of the root."""
    for page, name in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for folder in FOLDERS:
        for package in _packages(folder):
            files.append(File.generated(config, _page(package), content=_text(package)))
    return files


def _packages(folder: str) -> list[Path]:
    """Return a folder and the sub-packages in it that hold a module."""
    inside = [path.parent for path in (ROOT / folder).rglob("__init__.py")]
    return [package for package in sorted(inside) if _modules(package)]


def _modules(package: Path) -> list[str]:
    """Return the full names of a package's modules, itself left out."""
    files = sorted(package.glob("*.py"))
    return [f"{_dotted(package)}.{file.stem}" for file in files if not file.stem.startswith("__")]


def _dotted(package: Path) -> str:
    return ".".join(("feederguard", *package.relative_to(ROOT).parts))


def _name(package: Path) -> str:
    parts = package.relative_to(ROOT).parts
    return "/".join(parts[1:]) or f"{parts[0]} (top files)"


def _page(package: Path) -> str:
    return f"reference/{'/'.join(package.relative_to(ROOT).parts)}.md"


def _text(package: Path) -> str:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    modules = "\n\n".join(f"::: {module}" for module in _modules(package))
    return f"# {_dotted(package)}\n\n{docstring or ''}\n\n{modules}\n"
