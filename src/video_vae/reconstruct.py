"""Reconstruct a video, or measure on clips.

`reconstruct VIDEO --model DIR` writes NAME_rec.mp4 (without sound): all frames, at the video's own size, in memory that
does not grow with its length, and prints its PSNR. --output names another .mp4, or an .mkv, which is lossless.

`reconstruct CONFIG --ckpt-path DIR --data-path CLIPS --save-dir NAME` makes what is measured: NAME_ori (the source
after crop and resize), NAME_rec (the whole pipeline), NAME_spatial. Every clip is stored losslessly under its clip id,
with H.264 previews in NAME_preview; of a long clip several windows are made (reconstruction.windows), the further ones
named CLIP@START by their first frame. Under torchrun the ranks split the clips; a run that was cut off goes on with the
clips it lacks; NAME_* then hold exactly the clips of the table. Posteriors give their mode, so the results are
deterministic, unless --sample is given. Images in the table are left out unless --images is given. --baselines needs no
trained net: NAME_mean (the clip's average frame) and NAME_repeat (every fourth spatial latent, held) instead of
NAME_rec and NAME_spatial. --rival makes what the config's `compare` names so instead: each frame through another
spatial VAE, the videos that somebody else made of the same windows, which must have their names, frames and size, or a
codec at the bits of the latents. --latent-bits 4 6 8 also decodes latents quantised to so many bits per number:
NAME_rec_q8, and in rates.csv what each costs and loses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from video_vae.cli import main_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `reconstruct`."""
    both = "a video, with --model; otherwise the settings: YAML or JSON file, or JSON text"
    parser.add_argument("config", metavar="VIDEO|CONFIG", help=both)
    parser.add_argument("--model", type=Path, help="with a video: model folder, or a file of published weights")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="with a video: .mp4 or .mkv to write [NAME_rec.mp4]"
    )
    parser.add_argument("--ckpt-path", type=Path, help="model folder, or a weights file with the published names")
    parser.add_argument("--data-path", type=Path, help="clips: a table, a folder, a file")
    parser.add_argument("--save-dir", type=Path, metavar="NAME", help="NAME_ori, NAME_rec ... are written")
    parser.add_argument("--baselines", action="store_true", help="make the trivial baselines; needs no --ckpt-path")
    parser.add_argument("--rival", metavar="NAME", help="make a rival of the config's `compare`; needs no --ckpt-path")
    parser.add_argument("--spatial", type=Path, help="folder of the spatial VAE [the one that the config names]")
    parser.add_argument("--sample", action="store_true", help="draw from the posteriors, seeded by seed and clip id")
    parser.add_argument("--overlap-frames", type=int, metavar="N", help="frames that chunks share, blended [config]")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles for large frames [config]")
    parser.add_argument("--tile-overlap", type=int, metavar="PIXELS", help="what tiles share, blended [config]")
    parser.add_argument("--latent-bits", type=int, nargs="+", metavar="N", help="quantise latents, too [config]")
    parser.add_argument("--windows", type=int, metavar="N", help="most windows of a clip [config]")
    parser.add_argument("--images", action="store_true", help="reconstruct images too, as clips of one frame")
    parser.add_argument("--no-previews", dest="previews", action="store_false", help="write no NAME_preview")
    parser.add_argument("--shard", type=int, default=0, help="which shard of the clips to make, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--index", type=Path, help="list of the clips made [NAME/index.csv]")
    parser.add_argument("--strict", action="store_true", help="fail if any clip failed, not only if all did")
    whole = "fail and write no list if a clip's file is missing or changed; what does not decode is listed as failed"
    parser.add_argument("--require-files", action="store_true", help=whole)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Reconstruct one video, or this rank's clips of a table."""
    import torch

    from video_vae.reconstruction import clip_set, one_video
    from video_vae.reconstruction.options import check_form

    # exact arithmetic on GPUs too: measured results must not depend on the card's short cuts
    torch.backends.cudnn.deterministic = True
    check_form(args)
    (clip_set if args.model is None else one_video).run(args)


if __name__ == "__main__":
    raise SystemExit(main_for("reconstruct"))
