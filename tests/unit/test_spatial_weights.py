"""A spatial VAE loads the same from every form that people keep it in, or it is said what is there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from material import make_spatial, make_video_vae
from video_vae.config import Spatial
from video_vae.errors import UserError
from video_vae.weights.files import STEM, WEIGHTS, find_model
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_spatial


def to_latent_diffusion(state: dict[str, Tensor], levels: int = 4) -> dict[str, Tensor]:
    """Rename the tensors of a small AutoencoderKL as latent diffusion's code names them."""
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets\.", lambda found: f"up.{levels - 1 - int(found[1])}.block."),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{levels - 1 - int(found[1])}.upsample"),
        (r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ]
    named = {}
    for name, tensor in state.items():
        is_attention = "attentions.0.to_" in name and name.endswith("weight")
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        named[name] = tensor[:, :, None, None].contiguous() if is_attention else tensor
    return named


def to_old_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the attention's tensors as diffusers did before 0.17."""
    names = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    old = re.compile("|".join(map(re.escape, names)))
    return {old.sub(lambda found: names[found[0]], name): tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderKL:
    return make_spatial(tmp_path_factory.mktemp("made"))


def _sharded(net: AutoencoderKL, folder: Path) -> None:
    net.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*-of-*"))) > 1


def _sharded_variant(net: AutoencoderKL, folder: Path) -> None:
    net.save_pretrained(folder, max_shard_size="20KB", variant="fp16")


def _single(name: str, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> Callable[..., None]:
    def write(net: AutoencoderKL, folder: Path) -> None:
        net.save_config(folder)
        state = convert(net.state_dict())
        save_file(state, folder / name) if name.endswith("tensors") else torch.save(
            {"state_dict": state}, folder / name
        )

    return write


FORMS: dict[str, Callable[[AutoencoderKL, Path], None]] = {
    "whole": lambda net, folder: net.save_pretrained(folder),
    "sharded": _sharded,
    "variant": lambda net, folder: net.save_pretrained(folder, variant="fp16"),
    "sharded variant": _sharded_variant,
    "bin": lambda net, folder: net.save_pretrained(folder, safe_serialization=False),
    "sharded bin": lambda net, folder: net.save_pretrained(folder, safe_serialization=False, max_shard_size="20KB"),
    "another name": _single("model.safetensors"),
    "published": _single("sdxl_vae.safetensors", to_latent_diffusion),
    "published checkpoint": _single("vae-ft-mse.ckpt", to_latent_diffusion),
    "inside a whole model": _single(
        "v1-5-pruned.ckpt",
        lambda state: (
            {f"first_stage_model.{name}": tensor for name, tensor in to_latent_diffusion(state).items()}
            | {"model.diffusion_model.out.2.bias": torch.zeros(4)}
        ),
    ),
    "old names": _single(WEIGHTS, to_old_diffusers),
    "wrapped": _single("vae.pt", lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["folder", "file"])
def test_every_form_gives_the_same_net(made: AutoencoderKL, tmp_path: Path, form: str, by: str) -> None:
    FORMS[form](made, tmp_path)
    model = find_model(tmp_path)
    source = tmp_path if by == "folder" or model.index else model.weights[0]
    net = load_spatial(Spatial(pretrained=str(source), sha256=model.sha256()))
    assert weights_sha256(net.state_dict()) == weights_sha256(made.state_dict())
    assert not net.training


def test_half_precision_is_told_and_computed_in_full(
    made: AutoencoderKL, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("video_vae"), "propagate", True)
    made.save_config(tmp_path)
    half = {name: tensor.half() for name, tensor in made.state_dict().items()}
    save_file(half, tmp_path / f"{STEM}.fp16.safetensors")
    net = load_spatial(Spatial(pretrained=str(tmp_path)))
    assert f"takes {STEM}.fp16.safetensors; are there none in full precision?" in caplog.text
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, half[name].float()) for name, tensor in net.state_dict().items())


def test_a_published_file_alone_is_taken_for_the_sdxl_vae(made: AutoencoderKL, tmp_path: Path) -> None:
    save_file(to_latent_diffusion(made.state_dict()), tmp_path / "sdxl_vae.safetensors")
    with pytest.raises(UserError, match=r"misshapen .*put its config.json beside it"):
        load_spatial(Spatial(pretrained=str(tmp_path)))


def test_another_kind_of_model_is_named(tmp_path: Path) -> None:
    make_video_vae(tmp_path)
    with pytest.raises(UserError, match=r"config.json is of class VideoAutoencoderKL, not AutoencoderKL"):
        load_spatial(Spatial(pretrained=str(tmp_path / "model")))


def test_two_vaes_in_one_file_are_named(made: AutoencoderKL, tmp_path: Path) -> None:
    made.save_config(tmp_path)
    torch.save({"vae": made.state_dict(), "ema": made.state_dict()}, tmp_path / "both.pt")
    with pytest.raises(UserError, match="several sets of weights are in it; there are ema, vae; save the one to take"):
        load_spatial(Spatial(pretrained=str(tmp_path)))


ASK = """
import sys, time
from video_vae.config import Spatial
from video_vae.errors import UserError
from video_vae.weights.loading import load_spatial
begin = time.monotonic()
try:
    load_spatial(Spatial(pretrained="someone/vae", subfolder="vae"))
except UserError as error:
    print(f"{time.monotonic() - begin:.1f}", error)
"""


COMMIT = "1" * 40


class _Hub(BaseHTTPRequestHandler):
    """A hub that has someone/vae, with half precision beside full and no whole file, and does not know other/vae.

    Calls to a path under /slow are taken and never answered.
    """

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(30)
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        file = self.folder / self.path.rpartition(f"/{COMMIT if COMMIT in self.path else 'main'}/")[2]
        content = b""
        if self.path.startswith("/api/models/someone/vae"):
            files = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
            listing = [{"rfilename": name} for name in files]
            content = json.dumps({"id": "someone/vae", "sha": COMMIT, "siblings": listing}).encode()
        elif self.path.startswith("/someone/vae/resolve/") and file.is_file():
            content = file.read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if body else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def hub(folder: Path, place: str = "") -> Iterator[str]:
    """Serve a folder as a hub; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"folder": folder}))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{place}"
    finally:
        server.shutdown()
        server.server_close()


ASK = """
import os, sys, time
from huggingface_hub import constants
from video_vae.config import Spatial
from video_vae.errors import UserError
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_spatial
for name, address in zip(sys.argv[1::2], sys.argv[2::2]):
    constants.ENDPOINT = address
    begin = time.monotonic()
    try:
        said = weights_sha256(load_spatial(Spatial(pretrained=name, subfolder="vae")).state_dict())
    except UserError as error:
        said = str(error)
    print(f"{time.monotonic() - begin:.1f}", said)
"""


def ask(home: Path, *calls: str) -> list[str]:
    """Load spatial VAEs by name and address in one process; return what each gave, found within ten seconds."""
    surroundings = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": calls[1],
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }
    surroundings.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", ASK, *calls]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert all(float(seconds) < 10 for seconds, _ in lines)
    return [said for _, said in lines]


def test_a_hub_is_asked_once_and_one_that_is_not_reached_says_so_in_seconds(
    made: AutoencoderKL, tmp_path: Path
) -> None:
    served = tmp_path / "served"
    made.save_pretrained(served / "vae", max_shard_size="20KB")
    (served / "vae" / f"{STEM}.fp16.safetensors").write_bytes(b"half")
    with hub(served) as gone:
        pass
    with hub(served) as there, hub(served, "/slow") as slow:
        known, unknown = ("someone/vae", there, "someone/vae", gone), ("other/vae", there, "other/vae", slow)
        fetched, cached, *errors = ask(tmp_path / "home", *known, *unknown, "other/vae", gone)
    assert fetched == cached == weights_sha256(made.state_dict())
    expected = (f"({there} says Client error '404", f"({slow} is not reached: ", f"({gone} is not reached: ")
    for error, said in zip(errors, expected, strict=True):
        assert error.startswith("spatial VAE other/vae: cannot be loaded (") and said in error
        assert "set spatial.pretrained to a folder or to a model that this machine reaches" in error
    assert not list((tmp_path / "home").rglob("*fp16*"))


def test_the_papers_spatial_vae_is_found_where_only_defaults_are_set(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--PixArt-alpha--pixart_sigma_sdxlvae_T5_diffusers"
    make_spatial(cached / "snapshots" / ("0" * 40) / "vae")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    code = (
        "from video_vae.config import Config; from video_vae.weights.loading import load_spatial\n"
        "from video_vae.doctor.needs import hub_needs\n"
        "load_spatial(Config().spatial); print(hub_needs(Config()))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
