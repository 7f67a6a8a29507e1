"""PWC-Net equals the reference; flow estimators are loaded strictly, by hash, and named in results."""

from __future__ import annotations

import functools
import hashlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import golden
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.metrics import DIS, PWCNet, load_flow
from video_vae.metrics.flow import RAFT, NetFlow
from video_vae.metrics.pwcnet import cost_volume, warp


def frames() -> Tensor:
    return golden.arrays("metrics_bikes_64")["generated"].float() / 255


def shifted(by: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return a smooth picture and the same moved by (x, y) pixels."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.random((24, 24, 3)).astype(np.float32), (160, 160), interpolation=cv2.INTER_CUBIC)
    tensor = torch.from_numpy(picture.clip(0, 1)).permute(2, 0, 1)[None]
    return tensor[..., 32:128, 32:128], tensor[..., 32 - by[1] : 128 - by[1], 32 - by[0] : 128 - by[0]]


def test_pwcnet_equals_the_reference() -> None:
    net = PWCNet()
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == golden.shapes("pwcnet_state_dict")
    golden.fill(net, "pwc")
    expected = golden.arrays("metrics_bikes_64")["flow_generated"]
    torch.testing.assert_close(net(frames()[:2], frames()[1:3]), expected, atol=1e-3, rtol=0)


def test_pwcnet_takes_any_size_and_pairs_are_independent() -> None:
    net = PWCNet()
    golden.fill(net, "pwc")
    first, second = frames()[:2, :, :50, :37], frames()[1:3, :, :50, :37]
    flow = net(first, second)
    assert flow.shape == (2, 2, 50, 37)
    torch.testing.assert_close(net(first[1:], second[1:]), flow[1:], atol=1e-3, rtol=1e-5)


def test_cost_volume_is_the_mean_product_with_each_neighbour() -> None:
    first, second = (torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    volume = cost_volume(first, second)
    assert volume.shape == (2, 81, 7, 6)
    for down, right, y, x in ((0, 0, 3, 3), (-4, 2, 5, 1), (3, -4, 0, 5), (1, 1, 6, 5)):
        inside = 0 <= y + down < 7 and 0 <= x + right < 6
        expected = (first[:, :, y, x] * second[:, :, y + down, x + right]).mean(1) if inside else torch.zeros(2)
        channel = (down + 4) * 9 + right + 4
        torch.testing.assert_close(volume[:, channel, y, x], expected)


def test_warp_without_flow_changes_nothing_and_is_zero_outside() -> None:
    features = torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(features, torch.zeros(1, 2, 8, 9)), features, atol=1e-5, rtol=1e-5)
    assert not warp(features, torch.full((1, 2, 8, 9), 20.0)).any()


@pytest.mark.parametrize("by", [(3, 0), (0, -2), (-4, 3)])
def test_dis_finds_a_shift(by: tuple[int, int]) -> None:
    flow = DIS()(*shifted(by))
    assert flow.shape == (1, 2, 96, 96)
    median = flow[0, :, 16:-16, 16:-16].flatten(1).median(dim=1).values
    torch.testing.assert_close(median, torch.tensor(by, dtype=torch.float32), atol=0.2, rtol=0)


def test_dis_gives_the_same_with_any_number_of_threads() -> None:
    first, second = frames()[:-1], frames()[1:]
    before, threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        flows = []
        for count in (1, 3):
            torch.set_num_threads(count)
            flows.append(DIS()(first, second))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*flows) and cv2.getNumThreads() == threads
    with pytest.raises(UserError, match="12x12"):
        DIS()(first[..., :8], second[..., :8])


def test_raft_of_torchvision_is_an_option(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = RAFT(large=False).net.state_dict()
    torch.save(weights, tmp_path / "raft.pth")
    flow = load_flow("raft", str(tmp_path / "raft.pth"))
    assert flow.name == f"raft:{sha256_file(tmp_path / 'raft.pth')[:8]}"
    assert flow(frames()[:1, :, :40], frames()[1:2, :, :40]).shape == (1, 2, 40, 64)


def test_published_pwcnet_names_are_understood(tmp_path: Path) -> None:
    state = {name: golden.made(name, shape, "pwc") for name, shape in golden.shapes("pwcnet_state_dict").items()}
    torch.save({name.replace("net", "module"): value for name, value in state.items()}, tmp_path / "default.pytorch")
    save_file(state, tmp_path / "pwcnet.safetensors")
    for file in ("default.pytorch", "pwcnet.safetensors"):
        flow = load_flow("auto", str(tmp_path / file))
        assert isinstance(flow, NetFlow) and flow.name.startswith("pwcnet:")
        for name, value in flow.net.state_dict().items():
            assert torch.equal(value, state[name])


def test_wrong_flow_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs its weights"):
        load_flow("pwcnet")
    with pytest.raises(UserError, match="no such file"):
        load_flow("pwcnet", str(tmp_path / "none.pt"))
    with pytest.raises(UserError, match="takes no weights"):
        load_flow("dis", str(tmp_path / "none.pt"))
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    with pytest.raises(UserError, match="refused, it is broken or holds more than tensors"):
        load_flow("auto", str(tmp_path / "broken.pt"))
    save_file({"netExtractor.netOne.0.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match="does not hold the weights of pwcnet"):
        load_flow("pwcnet", str(tmp_path / "part.safetensors"))
    with pytest.raises(UserError, match="has sha256"):
        load_flow("pwcnet", str(tmp_path / "part.safetensors"), "0" * 64)


class _Served(http.server.SimpleHTTPRequestHandler):
    """Serve files, and send who asks for `/elsewhere/ADDRESS` to that address."""

    def do_GET(self) -> None:
        if not self.path.startswith("/elsewhere/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/elsewhere/"))
        return self.end_headers()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder over HTTPS, by a certificate made for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(made, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    handler = functools.partial(_Served, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


def test_weights_by_address_are_verified_and_kept(tmp_path: Path, address: str) -> None:
    state = {name: golden.made(name, shape, "pwc") for name, shape in golden.shapes("pwcnet_state_dict").items()}
    save_file(state, tmp_path / "served/pwcnet.safetensors")
    digest = hashlib.sha256((tmp_path / "served/pwcnet.safetensors").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="hash as well"):
        load_flow("pwcnet", f"{address}/pwcnet.safetensors")
    with pytest.raises(UserError, match="another sha256"):
        load_flow("pwcnet", f"{address}/pwcnet.safetensors", "0" * 64)
    with pytest.raises(UserError, match="could not be fetched"):
        load_flow("pwcnet", f"{address}/other.safetensors", digest)
    assert load_flow("pwcnet", f"{address}/pwcnet.safetensors", digest).name == f"pwcnet:{digest[:8]}"
    (tmp_path / "served/pwcnet.safetensors").unlink()
    assert load_flow("pwcnet", f"{address}/pwcnet.safetensors", digest).name == f"pwcnet:{digest[:8]}"


@pytest.mark.parametrize("where", ["http://localhost:9/x", "ftp://localhost/x", "file:///etc/hosts"])
def test_weights_come_over_https_or_not_at_all(address: str, where: str) -> None:
    with pytest.raises(UserError, match=r"a \w+ address; give an https one"):
        load_flow("pwcnet", where, "0" * 64)
    with pytest.raises(UserError, match=r"is not https|could not be fetched"):
        load_flow("pwcnet", f"{address}/elsewhere/{where}", "0" * 64)
    with pytest.raises(UserError, match="404"):  # followed, since it stays with https
        load_flow("pwcnet", f"{address}/elsewhere/{address}/none", "0" * 64)
