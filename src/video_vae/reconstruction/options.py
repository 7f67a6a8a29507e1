"""What the command line of `reconstruct` asks for: which of its two forms, and how frames and chunks are cut."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from video_vae.config import Config, parse_config
from video_vae.data.suffixes import VIDEO_SUFFIXES
from video_vae.errors import UserError
from video_vae.models.tiling import Tiling

VIDEO_FORM = "reconstruct VIDEO --model DIR [--output FILE]"
CLIPS_FORM = "reconstruct CONFIG --ckpt-path DIR --data-path CLIPS --save-dir NAME"


def check_form(args: argparse.Namespace) -> None:
    """Check that the options are those of one of the two forms.

    Raises:
        UserError: which names the missing or superfluous option.
    """
    names = ("--ckpt-path", "--data-path", "--save-dir", "--baselines", "--rival")
    given = [name for name in names if getattr(args, name[2:].replace("-", "_"))]
    if args.model is not None and given:
        raise UserError(f"{given[0]} does not go with --model; either {VIDEO_FORM}, or {CLIPS_FORM}")
    if args.model is not None:
        return
    if not given and (args.output is not None or Path(args.config).suffix.lower() in VIDEO_SUFFIXES):
        raise UserError(f"--model is missing: {VIDEO_FORM}")
    if args.output is not None:
        raise UserError(f"--output goes with --model only; either {VIDEO_FORM}, or {CLIPS_FORM}")
    makers = [name for name in ("--ckpt-path", "--baselines", "--rival") if name in given]
    if "--rival" in given and len(makers) > 1:
        raise UserError(f"{makers[0]} does not go with --rival; give one of them")
    missing = [name for name in ("--data-path", "--save-dir") if name not in given]
    if missing:
        raise UserError(f"{' and '.join(missing)} missing: {CLIPS_FORM}; for one video: {VIDEO_FORM}")


def with_options(config: Config, args: argparse.Namespace) -> Config:
    """Override the config's settings by the command line's options, with the same checks."""
    names = ("windows", "overlap_frames", "tile", "tile_overlap", "latent_bits")
    given = {name: getattr(args, name) for name in names}
    values = config.model_dump(mode="json")
    values["reconstruction"] |= {name: value for name, value in given.items() if value is not None}
    return parse_config(values, "options")


def set_chunks(config: Config, model: Any) -> None:
    """Set the frames of the model's chunks as the config says, where it says other than the model."""
    if config.reconstruction.chunk_frames != "model":
        model.register_to_config(chunk_frames=config.reconstruction.chunk_frames)


def set_cuts(config: Config, model: Any, side: int) -> dict[str, Any]:
    """Set chunk overlap and tiling as the config says; return the settings that shape the numbers."""
    wanted, chunk = config.reconstruction, model.config["chunk_frames"]
    settings: dict[str, Any] = {}
    if wanted.overlap_frames:
        if chunk is None or 2 * wanted.overlap_frames > chunk:
            cure = "give 0" if chunk is None else f"give {chunk // 2} at most"
            how = "takes clips whole" if chunk is None else f"has chunks of {chunk}"
            raise UserError(f"reconstruction.overlap_frames is {wanted.overlap_frames}, but the model {how}; {cure}")
        settings["overlap_frames"] = wanted.overlap_frames
    if wanted.tile is not None and side > wanted.tile:
        model.tiling = Tiling(wanted.tile, wanted.tile_overlap)
        settings["tile"], settings["tile_overlap"] = wanted.tile, wanted.tile_overlap
    return settings
