"""Optical flow for FloLPIPS: PWC-Net or RAFT where their weights are given, OpenCV's DIS otherwise."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from video_vae.config.types import address_scheme
from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.metrics.pwcnet import PWCNet
from video_vae.weights.tensors import misfits, read_tensors, take_net

FlowKind = Literal["auto", "pwcnet", "raft", "dis"]
DIS_MIN_SIDE = 12
"""Smallest side of a frame that DIS takes, in pixels."""
RAFT_MIN_SIDE, RAFT_MULTIPLE = 128, 8
PIXELS_AT_ONCE = 1 << 20
"""Pixels that a flow net is given at once: bounds its memory."""
TIMEOUT = 60.0
MAX_BYTES = 2_000_000_000


class Flow(Protocol):
    """Estimate motion: (B,3,H,W) twice, float in [0,1] -> (B,2,H,W), x then y, in pixels, from first to second."""

    name: str
    """What results are labelled with, such as `dis` or `pwcnet:<first 8 digits of the weights' sha256>`."""

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of each pair."""


class DIS:
    """Dense inverse search (Kroeger et al. 2016) from OpenCV, preset medium, on grey frames; needs no weights."""

    name = "dis"

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of each pair, computed on the CPU, one pair a thread."""
        if min(first.shape[-2:]) < DIS_MIN_SIDE:
            raise UserError(
                f"DIS flow needs frames of at least {DIS_MIN_SIDE}x{DIS_MIN_SIDE} pixels; leave flolpips, "
                "warping_error and tof out"
            )
        pairs = list(zip(_grey(first), _grey(second), strict=True))
        with _one_cv2_thread(), ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            flows = list(pool.map(lambda pair: _dis(*pair), pairs))
        stacked = np.stack(flows) if flows else np.empty((0, *first.shape[-2:], 2), np.float32)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(first.device)


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    no_start: Any = None  # an array here would be taken as a first guess
    return np.asarray(method.calc(first, second, no_start))


def _grey(frames: Tensor) -> list[np.ndarray]:
    pixels = frames.detach().mul(255.0).round().clamp(0, 255).to(torch.uint8)
    images = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]


@contextmanager
def _one_cv2_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class NetFlow(nn.Module):
    """A flow net with loaded weights, given a bounded number of pairs at once."""

    def __init__(self, kind: str, net: nn.Module, sha256: str) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.name, self.sha256 = f"{kind}:{sha256[:8]}", sha256

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of each pair, (B,2,H,W)."""
        size = max(1, PIXELS_AT_ONCE // (first.shape[-2] * first.shape[-1]))
        return torch.cat([self.net(a, b) for a, b in zip(first.split(size), second.split(size), strict=True)])


class RAFT(nn.Module):
    """RAFT (Teed and Deng 2020) of torchvision, large or small, behind the same interface."""

    def __init__(self, large: bool = True) -> None:
        super().__init__()
        from torchvision.models import optical_flow

        build = optical_flow.raft_large if large else optical_flow.raft_small
        self.net = build(weights=None, progress=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of each pair, (B,2,H,W) in pixels; sides are resized to what the net takes."""
        height, width = first.shape[-2:]
        size = tuple(max(RAFT_MIN_SIDE, -(-side // RAFT_MULTIPLE) * RAFT_MULTIPLE) for side in (height, width))
        pair = torch.cat([first, second]).float() * 2.0 - 1.0
        resized = functional.interpolate(pair, size=size, mode="bilinear", align_corners=False)
        flow = self.net(*resized.chunk(2))[-1]
        flow = functional.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)


def _pwcnet(tensors: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    return PWCNet(), {name.replace("module", "net"): tensor for name, tensor in tensors.items()}


def _raft(tensors: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    stem = [tensor for name, tensor in tensors.items() if name.endswith("feature_encoder.convnormrelu.0.weight")]
    net = RAFT(large=not stem or len(stem[0]) > 32)
    return net, {f"net.{name}": tensor for name, tensor in tensors.items()}


_NETS: dict[str, Callable[[Mapping[str, Tensor]], tuple[nn.Module, dict[str, Tensor]]]] = {
    "pwcnet": _pwcnet,
    "raft": _raft,
}


def load_flow(kind: FlowKind = "auto", weights: str | None = None, sha256: str | None = None) -> Flow:
    """Return the flow to use: `auto` takes PWC-Net where weights are given, DIS otherwise.

    `weights` is a file (safetensors, or what torch saved) or an https address, which needs its sha256.

    Raises:
        UserError: if weights are missing, superfluous, of another net, damaged or not of the given hash.
    """
    if kind == "dis" or (kind == "auto" and weights is None):
        if weights is not None:
            raise UserError("DIS flow takes no weights; leave --flow_weights out or take --flow pwcnet")
        return DIS()
    chosen = "pwcnet" if kind == "auto" else kind
    if weights is None:
        raise UserError(f"--flow {chosen} needs its weights; give --flow_weights FILE, or take --flow dis")
    path = _local(weights, sha256)
    digest = sha256_file(path)
    if sha256 is not None and digest != sha256:
        raise UserError(f"{weights} has sha256 {digest}, not {sha256}; get the right file or correct the hash")
    net, tensors = _NETS[chosen](read_tensors(path, "flow weights"))
    state = take_net(
        tensors, net.state_dict(), f"flow weights {path}", cure="save the one to take in a file of its own"
    )
    problems = misfits(state, net.state_dict())
    if problems:
        raise UserError(f"{weights} does not hold the weights of {chosen}: {problems}; get the right file")
    net.load_state_dict(state, strict=True)
    return NetFlow(chosen, net, digest)


def _local(weights: str, sha256: str | None) -> Path:
    """Return the weights' file; an address is downloaded once, to be verified by the caller."""
    scheme = address_scheme(weights)
    if scheme and scheme != "https":
        raise UserError(f"{weights}: a {scheme} address; give an https one, or download the file and name it")
    if not scheme:
        path = Path(weights)
        if not path.is_file():
            raise UserError(f"flow weights {path}: no such file; give an existing one, or take --flow dis")
        return path
    if sha256 is None:
        raise UserError(f"{weights} is an address: give the file's hash as well (--flow_sha256)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "video-vae" / "weights"
    target = cache / f"{sha256}{Path(weights).suffix}"
    if not target.is_file():
        _download(weights, sha256, target)
    return target


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follow no redirect to anything but https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Give the request that follows a redirect.

        Raises:
            UserError: if it would go elsewhere than to an https address.
        """
        if address_scheme(newurl) != "https":
            raise UserError(f"{req.full_url} redirects to {newurl}, which is not https; download the file and name it")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, sha256: str, target: Path) -> None:
    try:
        opener = urllib.request.build_opener(_OnlyHttps)
        with opener.open(address, timeout=TIMEOUT) as answer, atomic_path(target, known=True) as aside:
            with aside.open("wb") as stream:
                while block := answer.read(1 << 20):
                    stream.write(block)
                    if stream.tell() > MAX_BYTES:
                        raise UserError(f"{address} is larger than any flow net's weights; correct the address")
            if sha256_file(aside) != sha256:
                raise UserError(f"{address} has another sha256 than {sha256}; correct the hash or the address")
    except (urllib.error.URLError, OSError) as error:
        raise UserError(f"{address} could not be fetched ({error}); download it yourself and give the file") from None
