"""Make a project folder for clips of your own: config, profile, README and `run`, which starts the workflow there.

All that the workflow makes stays in the folder; the workflow itself stays in its checkout. Clips and checkout are named
by relative paths where all lie under the same folder, so that they can be moved together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from video_vae.config import Config, load_config
from video_vae.data.rows import TABLE_SUFFIXES
from video_vae.distributed.gpu_locks import visible_gpus
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.provenance import CHECKOUT
from video_vae.tar_members import SUFFIX

SIZES = ("small", "paper")
SIZE_CONFIGS = {"small": "config/demo.yaml", "paper": "config/config.yaml"}
SIZE_TEXTS = {
    "small": "the demo's small nets and few steps: minutes on a laptop, to see that your clips work",
    "paper": "the paper's nets and steps: weeks on GPUs; set `stages.*.steps` to what you can afford",
}
SMALL_SPATIAL = "workflow/weights/spatial_vae"
OWN_BLOCKS = ("experiment", "experiments", "data", "resources", "report")
"""Sections that a project writes itself or does without, as the demo's packages and experiments."""
_KEY = re.compile(r"^([a-z_]+):", re.MULTILINE)

CONFIG_HEAD = """\
# {name}: {size_text}.
# What is left out has its default; {checkout}/config/README.md explains every key.
experiment: {name}   # results lie in results/{name}

data:
  sources:   # folders, files, or lists of clips (CSV, parquet, JSON, paths line by line)
{sources}
  resolution: [{side}, {side}]   # height and width that the model sees, in pixels, multiples of 8; centre cropped
  fps: null           # 24 resamples clips of any rate, so that they show the same motion per frame
  frame_interval: 1   # 2 takes every second frame
  min_frames: 17   # shorter videos are rejected; results/{name}/data/rejected.csv says which and why
  min_size: 64   # so are videos whose shorter side is smaller than this, in pixels
  split:
    test_fraction: {held_out}   # share held out for testing; a `split` column in a table decides for its rows
{more}"""
CONFIG_REPORT = """\
report:
  title: {name}
  question: How well does a 4x8x8 video VAE reconstruct held-out clips of {name}?
"""
RUN = """\
#!/usr/bin/env bash
# Runs the workflow on this folder; takes targets and options of Snakemake: ./run -n, ./run results/metrics.csv
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
video_vae=${{VIDEO_VAE:-{checkout}}} # the checkout of video-vae; change this where it moves
[ -f "$video_vae/workflow/Snakefile" ] || {{
  echo "run: no checkout of video-vae in $video_vae; name it in this script or by VIDEO_VAE=/path ./run" >&2
  exit 2
}}
snakemake=$video_vae/.venv/bin/snakemake
[ -x "$snakemake" ] || snakemake=$(command -v snakemake) || {{
  echo "run: $video_vae has no environment yet; make it with: make -C $video_vae env" >&2
  exit 2
}}
python=${{snakemake%/*}}/python
[ -x "$python" ] || python=python3
PYTHONPATH=$video_vae/src "$python" -m video_vae.run_project "$@" || exit
case " $* " in *" -n "* | *" -np "* | *" --dry-run "* | *" --unlock "* | *" --help "*) ;; *)
  echo "run: watch it in another terminal by ${{snakemake%/*}}/video-vae status --watch" >&2
  echo "run: or its curves in a browser by ${{snakemake%/*}}/tensorboard --logdir results" >&2 ;;
esac
# export VIDEO_VAE_NOTIFY='mail -s "video-vae $1: $2" me@example.org < /dev/null' # at the end: outcome, config, report
options=(--snakefile "$video_vae/workflow/Snakefile" --configfile config.yaml --profile=./profile)
case " $* " in
*" -p "* | *" -q"* | *" --quiet"* | *" --verbose "*) ;;
*" -n "* | *" --dry-run "*) # the table of jobs, once; with -p each job and why it runs
  "$snakemake" --quiet rules host "${{options[@]}}" "$@" |
    awk '/^Job stats:/ {{ tables++ }} tables < 2 || /^This was a dry-run/'
  exit ;;
esac
exec "$snakemake" "${{options[@]}}" "$@"
"""
SITE = {
    "partition": (r"^  slurm_partition: .*$", "  slurm_partition: {}"),
    "account": (r"^  # slurm_account: .*$", "  slurm_account: {}"),
    "constraint": (r"^  # constraint: .*$", "  constraint: {}"),
    "gpus": (r'^(    (?:gpu|ranks): |    gres: "gpu:)8("?) .*# SITE: (.*)$', r"\g<1>{}\g<2>    # \g<3>"),
    "nodes": ("", ""),
}
"""Options that fill in the profile of a cluster: the line, and what it becomes."""
GPUS, NODES = 8, 3
"""GPUs of a node and nodes of stage 3 in the checkout's profile."""
DRIVER = """\
#!/usr/bin/env bash
# For sites that end long processes of login nodes: sbatch driver.sbatch [targets]. It waits for jobs and needs no GPU.
# When its own time is up the jobs run on: ./run --unlock, then the same command again.
#SBATCH --job-name=video-vae
{site}
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=1-00:00:00
#SBATCH --output=driver-%j.log
#SBATCH --no-requeue
cd "$SLURM_SUBMIT_DIR" && exec ./run "$@"
"""
README = """\
# {name}

A video VAE on clips of our own: {size_text}.

```sh
./run -n          # what would run; with -p each job, why, and its command
./run             # everything: results/metrics.csv, reports/report.html, reports/explore.html
{video_vae} status --watch                  # how far it is, in another terminal
{tensorboard} --logdir results         # the curves of the training, in a browser
{video_vae} doctor --config config.yaml     # what is missing, if something does not work
```

| file | what |
| --- | --- |
| `config.yaml` | what is computed; every key: `{checkout}/config/README.md` |
| `profile/config.yaml` | where it runs: {machine} |
| `run` | starts the workflow of the checkout `{checkout}` here |
| `results/{name}/data/rejected.csv` | files that could not be used, and why |
| `results/metrics.csv`, `reports/report.html` | what comes out |

`./run` again after a change runs only what the change concerns, and goes on where a killed run stopped.
"""
IGNORED = "results/\nreports/\nresources/\nlogs/\n.snakemake/\n"
NO_GPU = """\
# One machine without GPUs: all cores, as the checkout's own profile says. Options of Snakemake may follow, such as
# cores: 4
show-failed-logs: true
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `init`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to make; empty or not there yet")
    parser.add_argument(
        "--videos", type=Path, nargs="+", required=True, metavar="PATH", help="folders, files or tables of clips"
    )
    parser.add_argument("--name", help="name of the run [name of DIR]")
    parser.add_argument("--size", choices=SIZES, help="nets and steps [small where there is no GPU and no --slurm]")
    parser.add_argument("--slurm", action="store_true", help="write a profile for a SLURM cluster")
    site = parser.add_argument_group("with --slurm, what differs from cluster to cluster")
    site.add_argument("--partition", metavar="P", help="partition that jobs go to")
    site.add_argument("--account", metavar="A", help="account that jobs are charged to")
    site.add_argument("--constraint", metavar="C", help="feature that nodes must have")
    site.add_argument("--gpus", type=int, metavar="N", help="GPUs of a node that a training takes [8]")
    site.add_argument("--nodes", type=int, metavar="N", help="nodes of stage 3 [3]; stages 1 and 2 take one")


def run(args: argparse.Namespace) -> None:
    """Make the folder and say what to type next."""
    gpus = 0 if args.slurm else len(visible_gpus())
    size = args.size or ("paper" if gpus or args.slurm else "small")
    site = {name: getattr(args, name) for name in SITE if getattr(args, name) is not None}
    if site and not args.slurm:
        raise UserError(f"--{next(iter(site))} says where jobs of a cluster run; add --slurm")
    found = init_project(args.folder, args.videos, name=args.name, size=size, slurm=args.slurm, gpus=gpus, site=site)
    sys.stdout.write(
        f"{args.folder}: {found} clips and images found; config.yaml, profile/, run and README.md written\n\n"
        f"  cd {args.folder}\n  ./run -n    # what would run\n  ./run       # run it\n"
    )


def init_project(
    folder: Path,
    videos: Sequence[Path],
    *,
    name: str | None = None,
    size: str = "small",
    slurm: bool = False,
    gpus: int = 0,
    site: Mapping[str, Any] | None = None,
    checkout: Path = CHECKOUT,
) -> int:
    """Make a project folder and return how many files its sources hold.

    Raises:
        UserError: if the folder holds something, the checkout is not there, the sources hold no clips, or the clips of
            a step do not divide by the GPUs.
    """
    target = _free(folder)
    if not (checkout / "workflow" / "Snakefile").is_file():
        raise UserError(
            f"{checkout} is not a checkout of video-vae (no workflow/Snakefile); call init of a checkout's .venv"
        )
    from video_vae.data.sources import collect

    found = len(collect([str(video) for video in videos]).candidates)
    if not found:
        raise UserError(
            f"no videos or images in {', '.join(map(str, videos))}; name a folder, files, or a table of clips"
        )
    texts = _texts(target, videos, name or _run_name(target.name), size, slurm, gpus, checkout.resolve())
    if slurm:
        _check_ranks(load_config(checkout / SIZE_CONFIGS[size]), site or {})
        texts["profile/config.yaml"] = filled(texts["profile/config.yaml"], site or {})
        texts["driver.sbatch"] = _driver(site or {})
    _write(target, texts)
    return found


def _write(target: Path, texts: Mapping[str, str]) -> None:
    with atomic_path(target) as aside:
        for path, text in texts.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(text, encoding="utf-8")
        (aside / "run").chmod(0o755)
        load_config(aside / "config.yaml")


def _free(folder: Path) -> Path:
    """Return the folder's place, if nothing lies there."""
    target = folder.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{folder} holds something already; name a folder that is empty or not there yet")
    return target


def place(path: Path, folder: Path) -> str:
    """Name a path from a folder: relative where both lie under the same parent or one in the other, else absolute."""
    together = path.is_relative_to(folder.parent) or folder.is_relative_to(path)
    return os.path.relpath(path, folder) if together else str(path)


def located(source: Path) -> Path:
    """Make a path absolute; a link keeps its own name, so that it may be set to another place later."""
    return source.resolve() if source.name in ("", os.pardir) else source.parent.resolve() / source.name


def held_out(sources: Sequence[Path]) -> dict[str, Any]:
    """Return the `data.split` of own clips: a fifth of the videos, or of the one video's pieces of 33 frames."""
    from video_vae.data.frame_folders import is_numbered

    one = sources[0] if len(sources) == 1 else None
    listed = one is not None and one.is_file() and one.suffix.lower() in TABLE_SUFFIXES | {SUFFIX}
    one_video = one is not None and not listed and (one.is_file() or (one.is_dir() and is_numbered(one)))
    return {"test_fraction": 0.2, **({"by": "segment", "segment_frames": 33} if one_video else {})}


def _run_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:48].strip("_-") or "mine"


def _texts(
    target: Path, videos: Sequence[Path], name: str, size: str, slurm: bool, gpus: int, checkout: Path
) -> dict[str, str]:
    """Write the files of a project folder by their path in it."""
    where = place(checkout, target)
    machine = "a SLURM cluster; edit the lines marked SITE" if slurm else f"{gpus} GPUs" if gpus else "CPU cores"
    words = {"name": name, "size_text": SIZE_TEXTS[size], "checkout": where, "machine": machine}
    programs = {
        name.replace("-", "_"): shlex.quote(f"{where}/.venv/bin/{name}") for name in ("video-vae", "tensorboard")
    }
    return {
        "config.yaml": _config(target, videos, size, checkout, words),
        "profile/config.yaml": _profile(checkout, slurm, gpus),
        "run": RUN.format(checkout=shlex.quote(where)),
        "README.md": README.format(**programs, **words),
        ".gitignore": IGNORED,
    }


def _config(target: Path, videos: Sequence[Path], size: str, checkout: Path, words: Mapping[str, str]) -> str:
    """Take nets and stages from a config of the checkout, with its comments, and put own clips before them."""
    text = (checkout / SIZE_CONFIGS[size]).read_text(encoding="utf-8")
    text = text.replace(SMALL_SPATIAL, place(checkout / SMALL_SPATIAL, target))
    blocks = [block for block in text.split("\n\n") if _KEY.search(block)]
    split = held_out(videos)
    listed = "\n".join(f"    - {json.dumps(place(located(video), target), ensure_ascii=False)}" for video in videos)
    more = "".join(f"    {key}: {value}\n" for key, value in split.items() if key != "test_fraction")
    side = load_config(checkout / SIZE_CONFIGS[size]).data.resolution[0]
    head = CONFIG_HEAD.format(sources=listed, side=side, held_out=split["test_fraction"], more=more, **words)
    kept = [block for block in blocks if _KEY.findall(block)[0] not in OWN_BLOCKS]
    return "\n".join([head, *(block.rstrip() + "\n" for block in kept), CONFIG_REPORT.format(**words)])


def filled(profile: str, site: Mapping[str, Any]) -> str:
    """Fill in what is known of a site in the profile of a cluster; lines that are filled in lose the mark SITE."""
    text = profile
    for name, (pattern, written) in SITE.items():
        if name in site and pattern:
            text = re.sub(pattern, written.format(site[name]), text, flags=re.MULTILINE)
    for written in ('"gpu:', '"gpu:a100:', "--gpus-per-node="):  # in what these lines say of clusters that refuse them
        text = text.replace(f"{written}8", f"{written}{site.get('gpus', 8)}")
    nodes = site.get("nodes")
    if nodes == 1:
        text = re.sub(r"^  train_stage3:\n(?:    .*\n)+", "  train_stage3: *one_node\n", text, flags=re.MULTILINE)
    elif nodes:
        text = re.sub(r"^(    (?:nodes|tasks): )3 .*# SITE.*$", rf"\g<1>{nodes}", text, flags=re.MULTILINE)
    return text


def _check_ranks(config: Config, site: Mapping[str, Any]) -> None:
    """Refuse numbers of GPUs that the clips of a step do not divide by."""
    gpus, nodes = site.get("gpus"), site.get("nodes")
    for name in ("partition", "account", "constraint"):
        if not re.fullmatch(r"[\w.,:&|*@+-]+", str(site.get(name, "x"))):
            raise UserError(f"--{name} {site[name]!r} is no name of SLURM's; `sinfo` and `sacctmgr` list them")
    for name, given in (("gpus", gpus), ("nodes", nodes)):
        if given is not None and given < 1:
            raise UserError(f"--{name} {given}: give at least 1")
    for stage, on in (("stage1", 1), ("stage2", 1), ("stage3", nodes or NODES)):
        batch, ranks = getattr(config.stages, stage).global_batch, on * (gpus or GPUS)
        if site and batch % ranks:
            fits = " ".join(str(ranks) for ranks in range(1, batch + 1) if batch % ranks == 0)
            raise UserError(
                f"stages.{stage}.global_batch is {batch}, which does not divide by {ranks} ranks ({on} nodes of "
                f"{gpus or GPUS} GPUs); take --gpus and --nodes that make one of {fits}"
            )


def _driver(site: Mapping[str, Any]) -> str:
    """Write the job in which the workflow itself runs, for sites that end long processes of login nodes."""
    given = [f"#SBATCH --{name}={site[name]}" for name in ("partition", "account") if name in site]
    return DRIVER.format(site="\n".join(given or ["##SBATCH --partition=cpu   # SITE: one without GPUs"]))


def _profile(checkout: Path, slurm: bool, gpus: int) -> str:
    """Take the checkout's profile for such a machine."""
    if not slurm and not gpus:
        return NO_GPU
    path = checkout / "workflow" / "profiles" / ("slurm" if slurm else "gpus") / "config.yaml"
    text = path.read_text(encoding="utf-8").replace("snakemake --profile workflow/profiles/gpus", "./run")
    text = text.replace("snakemake --profile slurm", "./run")
    if slurm:
        return text
    return re.sub(r"^(resources: \[gpu=|    gpu: |    ranks: )8\b", rf"\g<1>{gpus}", text, flags=re.MULTILINE)
