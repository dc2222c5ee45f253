"""make_architecture: the table of steps and the folders -> the picture in README.md, as Mermaid.

What the steps read of each other comes from pipeline/steps.py; a test compares the picture with what this makes, and
asks that every folder with a project is in it.
"""

from __future__ import annotations

from pipeline.steps import STEPS
from stepkit.paths import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- made by make docs -->\n", "<!-- end -->\n"

STORES = {
    "tracking": "MLflow: runs, artifacts",
    "registry": "MLflow: registry<br>champion, challenger",
    "log": "prediction log",
}
AROUND = (
    ("simulate", "makes the sample", "download"),
    ("register", "moves the alias", "registry"),
    ("registry", "champion", "serve"),
    ("registry", "reference", "check_data"),
    ("registry", "rival", "evaluate"),
    ("serve", "every answer, feedback", "log"),
    ("log", "window", "drift"),
    ("drift", "labelled rows, why", "download"),
    ("drift", "alerts", "people"),
    ("drift", "reports", "tracking"),
)
"""What else is handed on, and between whom: folders, stores, people."""


def edges() -> list[str]:
    """An arrow for each run that a step reads, with the steps that it has to wait for dotted."""
    found = []
    for step in STEPS:
        found += [f"  {source} --> {step.name}" for source in step.reads.values()]
        found += [f"  {source} -.-> {step.name}" for source in step.after]
    return found


def picture() -> str:
    """Return the Mermaid block."""
    steps = [f'    {step.name}["{step.name}/"]' for step in STEPS]
    stores = [f'  {name}[("{text}")]' for name, text in STORES.items()]
    others = [f'  {folder}["{folder}/"]' for folder in ("simulate", "serve", "drift")]
    lines = [f'  {source} -- "{what}" --> {target}' for source, what, target in AROUND]
    pipeline = ['  subgraph pipeline["main.py: a run, and one below it for each step"]', *steps, "  end"]
    body = ["flowchart TB", *pipeline, *stores, *others, "  people([people])", *edges(), *lines]
    body.append("  pipeline -- every artifact --- tracking")
    return "```mermaid\n" + "\n".join(body) + "\n```\n"


def with_picture(text: str) -> str:
    """Return the README with the picture as it should be.

    Raises:
        ValueError: the README has lost the lines between which the picture stands.
    """
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"README.md has no {BEGIN.strip()} ... {END.strip()}; put both back where the picture belongs")
    return before + BEGIN + picture() + END + after


if __name__ == "__main__":
    README.write_text(with_picture(README.read_text(encoding="utf-8")), encoding="utf-8")
