"""Check this machine, and say for each thing that is missing what will not work and what to do.

Without --config only the machine is looked at; with it, also the clips, weights, packages and servers that the config
needs. `note` marks what will not work and is not needed here, `broken` what is needed: the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from video_vae.config import Config, load_config
from video_vae.doctor.machine import (
    Check,
    check_disk,
    check_gpu,
    check_memory,
    check_network,
    check_python,
    check_video,
    run_checks,
)

HUB_CURE = "fetch it where there is a network (video-vae fetch-weights), or set the key to a local folder"
REGISTRY_CURE = "set PIP_INDEX_URL to a mirror, or copy `resources` from where they were fetched"
PROFILES = (Path("profile/config.yaml"), Path("workflow/profiles/slurm/config.yaml"))
"""Where a profile for a cluster lies: in a project folder, in the checkout."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.add_argument("--config", metavar="FILE", help="config that is to run [none: the machine alone]")
    parser.add_argument("--slurm", action="store_true", help="it is to run on a SLURM cluster")
    parser.add_argument("--json", action="store_true", help="write the findings as JSON")


def run(args: argparse.Namespace) -> None:
    """Check, and show what was found as soon as it was.

    Raises:
        SystemExit: with status 1 if something needed is broken.
    """
    config = load_config(args.config) if args.config else None
    found = []
    for check in run_checks(_checks(config, args.slurm)):
        found.append(check)
        if not args.json:
            sys.stdout.write(f"{check.state:<7}{check.name:<15} {check.text}\n")
            sys.stdout.flush()
    broken = [check.name for check in found if check.state == "broken"]
    if args.json:
        sys.stdout.write(json.dumps([asdict(check) for check in found], indent=1) + "\n")
    else:
        notes = sum(check.state == "note" for check in found)
        said = f"broken: {', '.join(dict.fromkeys(broken))}" if broken else "everything that is needed works"
        sys.stdout.write(f"\n{said}{f'; {notes} notes' if notes else ''}\n")
    if broken:
        raise SystemExit(1)


def _checks(config: Config | None, slurm: bool) -> list[Callable[[], Iterator[Check]]]:
    """List the checks in the order in which they are shown; those that need packages import them when they run."""
    profile = next((path for path in PROFILES if path.is_file()), PROFILES[0])
    machine: list[Callable[[], Iterator[Check]]] = [
        check_python,
        check_gpu,
        check_video,
        partial(check_disk, Path("results")),
        check_memory,
    ]
    return [*machine, partial(_cluster, slurm, profile), *_needs(config)]


def _cluster(needed: bool, profile: Path) -> Iterator[Check]:
    from video_vae.doctor.cluster import check_slurm

    yield from check_slurm(needed, profile if needed and profile.is_file() else None)


def _needs(config: Config | None) -> list[Callable[[], Iterator[Check]]]:
    return [partial(_servers, config)] if config is None else [partial(_of_config, config), partial(_servers, config)]


def _of_config(config: Config) -> Iterator[Check]:
    from video_vae.doctor import needs

    for check in (needs.check_sources, needs.check_spatial, needs.check_rivals, needs.check_weights):
        yield from check(config)


def _servers(config: Config | None) -> Iterator[Check]:
    from video_vae.doctor import needs

    hub = [] if config is None else needs.hub_needs(config)
    registry = [] if config is None else needs.registry_needs(config, Path())
    yield from check_network("model hub", needs.hub_address(), hub, HUB_CURE)
    yield from check_network("registry", needs.registry_address(), registry, REGISTRY_CURE)
