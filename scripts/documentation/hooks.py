"""Pages of the documentation that are made when it is built: ``mkdocs serve`` shows it, ``mkdocs build`` writes it.

The home page is README.md. The page "Options" lists every key of an options file, made of the constructors and
docstrings that check it.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from vsr import registry
from vsr.config.json_schema import train_options
from vsr.config.manual import descriptions_of, summary_of
from vsr.config.options import (
    DistOptions,
    GeneralOptions,
    LoaderOptions,
    LoggerOptions,
    PathOptions,
    ValOptions,
    VisdomOptions,
    WandbOptions,
    WeightFile,
)
from vsr.config.schema import name_of_type, num_supplied, options_of

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {
    "top level": GeneralOptions,
    "path": PathOptions,
    "path.pretrain_network_g, a mapping": WeightFile,
    "datasets.*, beside the data set's own": LoaderOptions,
    "val": ValOptions,
    "logger": LoggerOptions,
    "logger.wandb": WandbOptions,
    "logger.visdom": VisdomOptions,
    "dist_params": DistOptions,
}
TITLES: dict[registry.Kind, str] = {
    "arch": "Networks, `network_g`",
    "encoder": "Encoders of a FramePredictor",
    "decoder": "Decoders of a FramePredictor",
    "memory": "Memories",
    "discriminator": "Discriminators, `network_d`",
    "dataset": "Data sets, `datasets.*`",
    "degradation": "Degradations, `datasets.train.degradation`",
    "degradation_step": "Steps of a degradation",
    "loss": "Losses, `train.losses.*`",
    "gan_loss": "Adversarial losses, `train.gan_opt`",
    "metric": "Metrics, `val.metrics.*`",
    "optimizer": "Optimisers, `train.optim_g`",
    "scheduler": "Schedules, `train.scheduler`",
}
PLAIN = (int, float, str, list, tuple)
OUTSIDE = "(?:benchmarks|scripts|vsr|options)/|LICENSE|CONTRIBUTING|CHANGELOG|README"
REPOSITORY_LINK = re.compile(rf"\[([^]]*)\]\((?:\.\./)?((?:{OUTSIDE})[^)]*)\)")
CODE = re.compile(r"`[^`]+`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the home page and the page of the options."""
    home = (ROOT / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=home))
    files.append(File.generated(config, "options.md", content="\n".join(options_page())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Shows links to files outside ``docs/`` as their paths, and bars in a table's code without GitHub's backslash."""

    def path_of(link: re.Match[str]) -> str:
        text, path = link.groups()
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    def without_backslashes(row: re.Match[str]) -> str:
        return CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0])

    return re.sub(r"^\|.*$", without_backslashes, REPOSITORY_LINK.sub(path_of, markdown), flags=re.MULTILINE)


def options_page() -> Iterator[str]:
    """Yields the lines of the page."""
    yield "# Options\n\nEvery key of an options file. A default in *italics* is the value of another key.\n"
    yield "`vsr schema` gives the same to editors (training.md).\n".replace("training.md", "[Training](training.md)")
    yield "## Sections\n"
    for title, section in SECTIONS.items():
        yield from table(f"### `{title}`" if "," not in title else f"### {title}", section)
    for name in registry.names("trainer"):
        if (options := train_options(registry.find("trainer", name))) is not None:
            yield from table(f"### `train` of {name}", options)
    for kind, title in TITLES.items():
        yield f"## {title}\n"
        for name in registry.names(kind):
            component = registry.find(kind, name)
            yield from table(f"### {name}", component, num_supplied(kind, component))


def table(title: str, function: Callable[..., Any], supplied: int = 0) -> Iterator[str]:
    """Yields a heading, the summary and a table of the options of a function, class or dataclass."""
    yield f"{title}\n\n{plain(summary_of(function))}\n"
    options, texts = options_of(function, supplied), descriptions_of(function)
    if options:
        yield "| key | kind | default | |\n| --- | --- | --- | --- |"
    for key, option in options.items():
        shared = [mark for mark in get_args(option.annotation)[1:] if isinstance(mark, registry.Shared)]
        default = f"*{shared[0].key}*" if shared else yaml_text(option.default)
        yield f"| `{key}` | {plain(name_of_type(option.annotation))} | {default} | {plain(texts.get(key, ''))} |"
    yield ""


def yaml_text(default: Any) -> str:
    """Returns a default as an options file writes it; "" where there is none, or a section of its own."""
    words = {None: "~", True: "true", False: "false"}
    if isinstance(default, bool) or default is None:
        return f"`{words[default]}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`" if isinstance(default, PLAIN) else ""


def plain(text: str) -> str:
    """Returns a docstring's text as Markdown for a table's cell."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`").replace("|", r"\|")
    return re.sub(r"<(?=\w)", "&lt;", text)
