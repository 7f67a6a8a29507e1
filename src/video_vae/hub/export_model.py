"""Export a model folder to share it, with a model card: README.md with scores, data, recipe, weights, licence, limits.

`diffusers` writes a folder with config.json and safetensors, which `VideoAutoencoderKL.from_pretrained` loads;
`open-sora` writes the names of the published checkpoint: a file where OUTPUT ends in .safetensors, or in .pt, .pth,
.bin or .ckpt for `torch.load`, otherwise a folder. `video-vae import` takes all of them back without options.
What the card says comes from run.json beside the model, from those of the stages before it, and from metrics.csv.
What others put into the folder stays; where README.md is theirs, the card is MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from video_vae.config import Config, parse_config
from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.hub.model_card import UNKNOWN_LICENCE, is_own_card, trace, write_card
from video_vae.weights.files import SUFFIXES

log = logging.getLogger(__name__)
FORMATS = ("open-sora", "diffusers")
CARD, OTHER_CARD = "README.md", "MODEL_CARD.md"
OPEN_SORA_FILE = "model.safetensors"
_ENDING = re.compile(r"\.[A-Za-z](?!\d*$)\w*")
"""What a file's name ends with, unlike a folder's version (`vae-1.2`, `vae.v2`)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("model", type=Path, help="model folder of a stage")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="folder or file to write")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="names and layout of the weights")
    parser.add_argument("--license", default=UNKNOWN_LICENCE, metavar="ID", help="licence of the weights, for the card")
    parser.add_argument("--name", help="name of the model, for the card [name of OUTPUT]")
    parser.add_argument("--metrics", type=Path, metavar="CSV", help="scores, for the card [metrics.csv of the results]")


def run(args: argparse.Namespace) -> None:
    """Write the model, and its card where a folder is written."""
    from video_vae.weights.open_sora import export_checkpoint

    if _is_file(args.output, args.format):
        export_checkpoint(args.model, args.output)
    else:
        _export_folder(args)
    sys.stdout.write(f"{args.output}\n")


def _is_file(output: Path, form: str) -> bool:
    """Tell whether a file is to be written, and not a folder.

    Raises:
        UserError: if the ending is that of a file that is not written so.
    """
    known = output.suffix.lower() in SUFFIXES
    if output.is_dir() or not (known or _ENDING.fullmatch(output.suffix)):
        return False
    if form == "open-sora" and known:
        return True
    files = f"open-sora writes {', '.join(SUFFIXES)} files"
    can = f"--format {files if form == 'open-sora' else f'{form} writes a folder'}"
    raise UserError(f"--output {output}: {can}, not {output.suffix}; name a folder without an ending, or such a file")


def _export_folder(args: argparse.Namespace) -> None:
    from video_vae.weights.loading import load_video_vae, save_model
    from video_vae.weights.open_sora import export_checkpoint

    origin = trace(args.model, args.metrics)
    config = parse_config(origin.records[0]["config"]) if origin.records else Config()
    card = _card_name(args.output)
    with atomic_path(args.output) as folder:
        log.info("%s: reading, writing and hashing the weights", args.model)
        if args.format == "diffusers":
            save_model(load_video_vae(args.model), folder)
        else:
            folder.mkdir()
            export_checkpoint(args.model, folder / OPEN_SORA_FILE)
        weights = {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}
        said = {"name": args.name or args.output.resolve().name, "form": args.format, "licence": args.license}
        write_card(folder / card, origin, **said, config=config, weights=weights)
    if card != CARD:
        log.warning("%s is not as this command wrote it and stays; the card is in %s", args.output / CARD, card)
    if not origin.scores:
        log.warning("%s: no scores of this model were found; the card says so", args.metrics or "metrics.csv")


def _card_name(folder: Path) -> str:
    """Choose the file of the card: a README.md that was written or edited by others stays.

    Raises:
        UserError: if both names are taken.
    """
    for name in (CARD, OTHER_CARD):
        if not (folder / name).exists() or is_own_card(folder / name):
            return name
    raise UserError(f"{folder / CARD} and {OTHER_CARD} are not as this command wrote them; move one of them away")
