"""Write a video VAE as two ONNX files, encoder and decoder, for clips of one length and size.

Each is run by onnxruntime before it is left: what it gives agrees with the model within `TOLERANCE`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime
import onnxscript  # noqa: F401 (what torch.onnx writes with; where it is missing, its own error names no extra)
import torch
from torch import Tensor, nn

from video_vae import __version__
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.foreign import ONNX_DATA, ONNX_PRODUCER
from video_vae.models import VideoAutoencoderKL

log = logging.getLogger(__name__)

FILES = ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
TOLERANCE = 1e-3
"""Largest difference that is accepted, per unit of the largest value (an eighth of a step of 8-bit pixels)."""
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
MAX_INSIDE = 3 * 2**29
"""Bytes of weights that a file holds itself, which can be 2 GiB at most; more lie in another file beside it."""


class ClipShape(NamedTuple):
    """Length and size of the clips that the files take."""

    frames: int
    height: int
    width: int

    @classmethod
    def parse(cls, frames: int, size: str, side: int) -> ClipShape:
        """Read a size such as 256x256, height first; both multiples of ``side``.

        Raises:
            UserError: if they are not, or there is no frame.
        """
        if frames < 1:
            raise UserError(f"--frames {frames}: a clip has 1 frame at least; give a number above 0, such as 17")
        found = _SIZE.fullmatch(size)
        height, width = (int(found[1]), int(found[2])) if found else (0, 0)
        if not height or not width or height % side or width % side:
            raise UserError(f"--size {size}: give height and width, multiples of {side}, such as {4 * side}x{8 * side}")
        return cls(frames, height, width)


@dataclass(frozen=True)
class Written:
    """One file as it was written."""

    name: str
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    difference: float
    """Largest difference from what the model gives, per unit of the largest value."""

    def __str__(self) -> str:
        return f"{self.name}: {self.takes} -> {self.gives}, differs from the model by {self.difference:.1e} at most"


class Encoder(nn.Module):
    """Encode video (1, 3, T, H, W) in [-1, 1] to normalised latents, the mode."""

    def __init__(self, net: VideoAutoencoderKL) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor) -> Tensor:
        """Return what `encode_latents` does."""
        return self.net.encode_latents(video)


class Decoder(nn.Module):
    """Decode normalised latents (1, 4, T', h, w) to video (1, 3, T, H, W)."""

    def __init__(self, net: VideoAutoencoderKL, frames: int) -> None:
        super().__init__()
        self.net = net
        self.frames = frames

    def forward(self, latents: Tensor) -> Tensor:
        """Return what `decode_latents` does."""
        return self.net.decode_latents(latents, self.frames)


def write_onnx(
    net: VideoAutoencoderKL, folder: Path, shape: ClipShape, texts: Mapping[str, str], inside: int = MAX_INSIDE
) -> Iterator[Written]:
    """Write encoder and decoder of a net to a folder, and yield each of them when it was seen to agree with it.

    Args:
        net: in fp32, on the CPU.
        folder: to write to.
        shape: of the clips.
        texts: what the files say beside their clips' frames, height and width.
        inside: bytes of weights that a file holds itself.

    Raises:
        UserError: if a file does not agree with the net.
    """
    net = net.eval().requires_grad_(False)
    texts = {"video_vae_version": __version__, **texts, **{name: str(value) for name, value in shape._asdict().items()}}
    video = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = net.encode_latents(video)
        again = net.decode_latents(latents, shape.frames)
    parts: tuple[tuple[str, nn.Module, str, Tensor, str, Tensor], ...] = (
        (ENCODER, Encoder(net), "video", video, "latents", latents),
        (DECODER, Decoder(net, shape.frames), "latents", latents, "video", again),
    )
    for name, module, takes, given, gives, expected in parts:
        log.info("%s: writing it, then comparing it with the model", name)
        _save(_program(module.eval(), takes, given, gives), folder / name, texts, inside)
        difference = check_agreement(folder / name, given, expected)
        yield Written(name, tuple(given.shape), tuple(expected.shape), difference)


def _program(module: nn.Module, takes: str, given: Tensor, gives: str) -> Any:
    """Trace a module; with gradients on, in which the nets take all frames at once and not each by a copy of itself."""
    with torch.enable_grad():
        return torch.onnx.export(
            module, (given,), dynamo=True, input_names=[takes], output_names=[gives], verbose=False
        )


def _save(program: Any, path: Path, texts: Mapping[str, str], inside: int) -> None:
    weights = program.model.graph.initializers.values()
    program.model.producer_name, program.model.producer_version = ONNX_PRODUCER, __version__
    program.model.metadata_props.update(texts)
    program.save(path, external_data=sum(weight.const_value.nbytes for weight in weights) > inside)
    data = path.with_name(path.name + ONNX_DATA)
    if data.exists():
        proto = onnx.load(path, load_external_data=False)
        onnx.helper.set_model_props(proto, {**texts, "data_sha256": sha256_file(data)})
        onnx.save(proto, path)


def check_agreement(path: Path, given: Tensor, expected: Tensor) -> float:
    """Run a file by onnxruntime on the CPU; return its largest difference per unit of the largest expected value.

    Raises:
        UserError: if it is above `TOLERANCE`, or not a number.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    unit = max(1.0, expected.abs().max().item())
    difference = (torch.from_numpy(found) - expected).abs().max().item() / unit
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path.name} does not agree with the model: it differs by {difference:.1e} of the largest value, "
            f"{TOLERANCE:.0e} is accepted, so nothing is written; use the model itself, or other versions of torch and "
            "onnxruntime"
        )
    return difference
