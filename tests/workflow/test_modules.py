"""Another repository takes the workflow in as a module: by a path, out of git, under other names."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workflow.workflow_material import Checkout, copy_checkout, jobs

HOST = """\
configfile: "config/config.yaml"

rule all:
    input: "mine.txt"

rule mine:
    output: "mine.txt"
    shell: "env > {{output}}"

module vae:
    snakefile: {snakefile}
    config: {config}
{more}
use rule * from vae{names}
"""
COMMIT = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message", "Work"]


class Host(Checkout):
    """A repository that imports the workflow, where no copy of the package can be imported but the workflow's own."""

    def __init__(
        self, folder: Path, snakefile: str, *, names: str = "", more: str = "", config: str = "config"
    ) -> None:
        super().__init__(folder)
        (folder / "workflow").mkdir(parents=True)
        text = HOST.format(snakefile=snakefile, names=names, more=more, config=config)
        (folder / "workflow" / "Snakefile").write_text(text, encoding="utf-8")
        (folder / "other" / "video_vae").mkdir(parents=True)
        (folder / "other" / "video_vae" / "__init__.py").write_text("raise ImportError('another copy')\n")

    def run(self, *arguments: str) -> str:
        """Run Snakemake as if neither this environment nor this user had been there before; return what it printed."""
        gits = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": "https://github.com/", "GITHUB_TOKEN": ""}
        gits["GIT_CONFIG_KEY_0"] = f"url.file://{self.folder.parent}/forge/.insteadOf"
        cache = str(self.folder.parent / "cache")
        result = self.snakemake(
            *arguments, PYTHONPATH=str(self.folder / "other"), PATH="/usr/bin:/bin", XDG_CACHE_HOME=cache, **gits
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkout in `forge/someone/video-vae`, which is a git repository with the tag v1."""
    folder = tmp_path_factory.mktemp("modules")
    checkout = folder / "forge" / "someone" / "video-vae"
    copy_checkout(checkout)
    for command in (
        ["git", "init", "--quiet", "--initial-branch", "main"],
        ["git", "add", "."],
        COMMIT,
        ["git", "tag", "v1"],
    ):
        subprocess.run(command, cwd=checkout, check=True)
    return folder


@pytest.fixture(scope="module")
def everything(place: Path) -> dict[str, int]:
    """The jobs of the demo in its own checkout."""
    return Checkout(place / "forge/someone/video-vae").plan()


LOCAL = '"../../forge/someone/video-vae/workflow/Snakefile"'
GITHUB = 'github("someone/video-vae", path="workflow/Snakefile", {})'


def _host(place: Path, name: str, snakefile: str = LOCAL, **how: str) -> Host:
    """Make an importing repository with the demo's config as its own."""
    folder = place / name
    host = Host(folder, snakefile, **how)
    (folder / "config").mkdir()
    demo = place / "forge/someone/video-vae/config"
    text = (demo / "demo.yaml").read_text(encoding="utf-8")
    if how.get("config") == 'config["vae"]':
        text = "mine: 1\nvae:\n" + "".join(f"  {line}" for line in text.splitlines(keepends=True))
    (folder / "config" / "config.yaml").write_text(text, encoding="utf-8")
    shutil.copy(demo / "demo_clips.csv", folder / "config")
    return host


TARGETS = ("results/metrics.csv", "reports/report.html", "reports/explore.html")


@pytest.mark.parametrize(
    ("name", "prefix", "how"),
    [
        ("plain", "", {}),
        ("renamed", "vae_", {"names": " as vae_*"}),
        ("beside", "", {"more": '    prefix: "vae"\n'}),
        ("section", "vae_", {"config": 'config["vae"]', "names": " as vae_*"}),
        ("gitfile", "", {"snakefile": 'gitfile("../forge/someone/video-vae", path="workflow/Snakefile", tag="v1")'}),
        ("branch", "", {"snakefile": GITHUB.format('branch="main"')}),
    ],
)
def test_an_importing_workflow_plans_all_of_it(
    place: Path, everything: dict[str, int], name: str, prefix: str, how: dict[str, str]
) -> None:
    host = _host(place, name, **({} if prefix else {"names": " exclude all"}) | how)
    folder = "vae/" if name == "beside" else ""
    planned = jobs(host.run("-n", *(f"{folder}{target}" for target in TARGETS)))
    assert planned == {f"{prefix}{rule}": count for rule, count in everything.items() if rule != "all"}


def test_a_workflow_of_its_own_has_its_own_target_and_one_of_nothing_else_has_all(
    place: Path, everything: dict[str, int]
) -> None:
    host = _host(place, "deployed")
    snakefile = host.folder / "workflow/Snakefile"
    text = snakefile.read_text(encoding="utf-8")
    assert jobs(_host(place, "mine", names=" as vae_*").run("-n")) == {"all": 1, "mine": 1}
    snakefile.write_text(text[: text.index("rule all")] + text[text.index("module vae") :], encoding="utf-8")
    assert jobs(host.run("-n")) == everything


def test_a_run_of_the_module_leaves_the_importing_workflow_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)  # commands that ran in this process set it
    host = _host(place, "own shell", names=" as vae_*", more='    prefix: "vae"\n')
    with (host.folder / "workflow/Snakefile").open("a", encoding="utf-8") as stream:
        stream.write('\nshell.prefix("export OF_THE_HOST=1; ")\n')
    host.run("--cores", "2", "mine.txt", "vae_all")
    seen = (host.folder / "mine.txt").read_text(encoding="utf-8")
    assert "OF_THE_HOST=1\n" in seen and "PATH=/usr/bin:/bin\n" in seen
    assert f"PYTHONPATH={host.folder}/other\n" in seen and "OMP_WAIT_POLICY" not in seen
    assert all((host.folder / "vae" / target).is_file() for target in TARGETS)
    assert {path.name for path in host.folder.iterdir()} == {
        "config",
        "mine.txt",
        "other",
        "vae",
        "workflow",
        ".snakemake",
    }
    drawn = set(re.findall(r'label = "(\w+)', (host.folder / "vae/results/rulegraph.dot").read_text(encoding="utf-8")))
    assert {"all", "train_stage1", "make_report"} <= drawn and not {"mine", "vae_all"} & drawn


def test_the_module_runs_out_of_git_with_no_checkout_beside_it(place: Path, everything: dict[str, int]) -> None:
    forge = place / "away"
    shutil.copytree(place / "forge/someone", forge / "forge/someone")
    host = Host(forge / "it's mine", GITHUB.format('tag="v1"'), names=" as vae_*")
    shutil.copytree(forge / "forge/someone/video-vae/config", host.folder / "config")
    (host.folder / "config/demo.yaml").rename(host.folder / "config/config.yaml")
    host.run("--cores", "2", "vae_all")
    commit = subprocess.run(
        ["git", "rev-parse", "v1"], cwd=forge / "forge/someone/video-vae", check=True, capture_output=True, text=True
    ).stdout.strip()
    written = {path.name for path in (host.folder / ".snakemake/video-vae").iterdir()}
    assert written == {commit, "settings.jinja", "plans"}
    archived = (host.folder / f".snakemake/video-vae/{commit}/.git_archival.txt").read_text(encoding="utf-8")
    assert archived == f"node: {commit}\n"
    assert all((host.folder / target).is_file() for target in TARGETS)
    assert jobs(host.run("-n", "vae_all")) == {}


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "whole",
            'config | {"samples": 1}',
            "unknown key samples.*a module takes this workflow's settings alone",
        ),
        ("nothing", "{}", "the module statement gives no settings; add to it: config: config"),
    ],
)
def test_settings_that_cannot_be_are_one_line_with_the_cure(place: Path, name: str, config: str, message: str) -> None:
    host = _host(place, name, config=config, names=" as vae_*")
    with pytest.raises(AssertionError) as caught:
        host.run("-n")
    assert re.search(message, str(caught.value)) and "Traceback" not in str(caught.value)


def test_an_address_that_tells_nothing_of_the_other_files_is_refused(place: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(place / "forge/someone/video-vae"))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/workflow/Snakefile"
        with pytest.raises(AssertionError, match="tells nothing of the files beside it; name the Snakefile by a path"):
            _host(place, "address", f'"{address}"', names=" as vae_*").run("-n")
        server.shutdown()


def test_a_second_copy_of_the_package_is_refused(place: Path) -> None:
    host = _host(place, "two", names=" as vae_*")
    (host.folder / "other/video_vae/__init__.py").write_text("", encoding="utf-8")
    snakefile = host.folder / "workflow/Snakefile"
    snakefile.write_text("import video_vae\n" + snakefile.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(AssertionError, match="was imported before this workflow's own package"):
        host.run("-n")
