"""Export a model folder to share it, with a model card: README.md with scores, data, recipe, weights, licence, limits.

`diffusers` writes a folder with config.json and safetensors, which `VideoAutoencoderKL.from_pretrained` loads;
`open-sora` writes the names of the published checkpoint: a file where OUTPUT ends in .safetensors, or in .pt, .pth,
.bin or .ckpt for `torch.load`, otherwise a folder. `video-vae import` takes all of them back without options.
`onnx` writes a folder with encoder.onnx (video to normalised latents, the mode) and decoder.onnx (back) for clips of
one length and size, which onnxruntime and others run without this package, compared with the model before it is left.
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
from video_vae.foreign import ONNX_PRODUCER
from video_vae.hub.model_card import UNKNOWN_LICENCE, is_own_card, trace, write_card
from video_vae.weights.files import SUFFIXES

log = logging.getLogger(__name__)
FORMATS = ("open-sora", "diffusers", "onnx")
CARD, OTHER_CARD = "README.md", "MODEL_CARD.md"
OPEN_SORA_FILE = "model.safetensors"
WEIGHTS = (".safetensors", ".onnx", ".data")
"""How the names of exported weights end."""
FRAMES, SIZE = 17, "256x256"
"""Clips that ONNX files take where nobody says: those of the report."""
_ENDING = re.compile(r"\.[A-Za-z](?!\d*$)\w*")
"""What a file's name ends with, unlike a folder's version (`vae-1.2`, `vae.v2`)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("model", type=Path, help="model folder of a stage")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="folder or file to write")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="names and layout of the weights")
    parser.add_argument("--frames", type=int, metavar="N", help=f"frames of the clips that ONNX files take [{FRAMES}]")
    parser.add_argument("--size", metavar="HxW", help=f"height and width of them [{SIZE}]")
    parser.add_argument("--license", default=UNKNOWN_LICENCE, metavar="ID", help="licence of the weights, for the card")
    parser.add_argument("--name", help="name of the model, for the card [name of OUTPUT]")
    parser.add_argument("--metrics", type=Path, metavar="CSV", help="scores, for the card [metrics.csv of the results]")


def run(args: argparse.Namespace) -> None:
    """Write the model, and its card where a folder is written."""
    from video_vae.weights.open_sora import export_checkpoint

    if args.format != "onnx" and (args.frames is not None or args.size is not None):
        raise UserError(f"--frames and --size say what ONNX files take, not {args.format}; add --format onnx")
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
    origin = trace(args.model, args.metrics)
    config = parse_config(origin.records[0]["config"]) if origin.records else Config()
    card = _card_name(args.output)
    with atomic_path(args.output) as folder:
        shape = _write_weights(args, folder)
        weights = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS}
        said = {"name": args.name or args.output.resolve().name, "form": args.format, "licence": args.license}
        write_card(folder / card, origin, **said, config=config, weights=weights, shape=shape)
    if card != CARD:
        log.warning("%s is not as this command wrote it and stays; the card is in %s", args.output / CARD, card)
    if not origin.scores:
        log.warning("%s: no scores of this model were found; the card says so", args.metrics or "metrics.csv")


def _write_weights(args: argparse.Namespace, folder: Path) -> tuple[int, int, int] | None:
    """Write all but the card; return frames, height and width of the clips where it is made for one kind of them."""
    from video_vae.weights.loading import load_video_vae, save_model
    from video_vae.weights.open_sora import export_checkpoint

    if args.format == "onnx":
        return _write_onnx(args, folder)
    log.info("%s: reading, writing and hashing the weights", args.model)
    if args.format == "diffusers":
        save_model(load_video_vae(args.model), folder)
    else:
        folder.mkdir()
        export_checkpoint(args.model, folder / OPEN_SORA_FILE)
    return None


def _write_onnx(args: argparse.Namespace, folder: Path) -> tuple[int, int, int]:
    from video_vae.hub.onnx_files import FILES, ClipShape, write_onnx
    from video_vae.weights.files import find_model
    from video_vae.weights.loading import load_video_vae, raise_if_foreign_model
    from video_vae.weights.open_sora import config_text

    raise_if_foreign_model(args.output, FILES, [ONNX_PRODUCER])
    net = load_video_vae(args.model)
    frames = FRAMES if args.frames is None else args.frames
    shape = ClipShape.parse(frames, args.size or SIZE, net.spatial_compression_ratio)
    texts = {"config": config_text(net), "weights_sha256": find_model(args.model).sha256()}
    folder.mkdir()
    for written in write_onnx(net, folder, shape, texts):
        log.info("%s", written)
    return shape


def _card_name(folder: Path) -> str:
    """Choose the file of the card: a README.md that was written or edited by others stays.

    Raises:
        UserError: if both names are taken.
    """
    for name in (CARD, OTHER_CARD):
        if not (folder / name).exists() or is_own_card(folder / name):
            return name
    raise UserError(f"{folder / CARD} and {OTHER_CARD} are not as this command wrote them; move one of them away")
