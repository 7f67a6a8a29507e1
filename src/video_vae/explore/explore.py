"""Run a notebook on a finished run and keep the executed copy.

The first cell of code in the notebook says what it reads (CONFIG, RESULTS, ...); a cell inserted after it sets it
again. It runs in the folder in which this command runs, whatever that is called.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_vae.errors import UserError
from video_vae.files import atomic_path, temporary_folder
from video_vae.foreign import EXECUTED, PREVIEW, check_places

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `explore`."""
    parser.add_argument("config", metavar="CONFIG", help="settings of the run: YAML or JSON file, or JSON text")
    parser.add_argument("--notebook", type=Path, required=True, metavar="FILE", help="notebook to run")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="results of the run")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads [all]")
    parser.add_argument("--morph", type=Path, default=Path("morph.mp4"), metavar="MP4", help="clip that it writes")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="executed notebook to write")


def run(args: argparse.Namespace) -> None:
    """Run the notebook on the results of this folder."""
    check_places({args.morph: [PREVIEW]})
    args.morph.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "CONFIG": args.config,
        "FOLDER": ".",
        "RESULTS": str(args.results),
        "MORPH": str(args.morph),
        "THREADS": args.threads,
    }
    execute(args.notebook, values, args.output)
    log.info("%s: executed, in %s", args.notebook, args.output)


def execute(notebook: Path, values: Mapping[str, Any], output: Path) -> None:
    """Run a notebook in the working folder, with the names of its first cell set to some values.

    Raises:
        UserError: if it is no notebook, a file of others stands in the place of `output`, or a cell fails; what it
            showed until then is kept beside `output`.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError) as error:
        raise UserError(f"{notebook}: not a readable notebook ({error}); name one by --notebook") from None
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    check_places({output: [EXECUTED], failed: [EXECUTED]})
    first = next((place for place, cell in enumerate(content.cells) if cell.cell_type == "code"), 0)
    said = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    content.cells.insert(first + 1, nbformat.v4.new_code_cell(said, metadata={"tags": [EXECUTED]}))
    client = NotebookClient(
        content,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": "."}},
        extra_arguments=["--log-level=ERROR"],  # not that it talks over the loopback interface
    )
    with temporary_folder("video-vae-ipython-") as own:  # nobody's IPython profile changes what is shown
        os.environ["IPYTHONDIR"] = str(own)
        try:
            client.execute()
        except CellExecutionError as error:
            _write(content, failed)
            log.error("%s", error)
            raise UserError(
                f"{notebook}: a cell failed ({error.ename}: {error.evalue}); {failed} shows where"
            ) from None
    _write(content, output)


def _write(content: Any, path: Path) -> None:
    import nbformat

    with atomic_path(path) as aside:
        aside.write_text(nbformat.writes(content), encoding="utf-8")
