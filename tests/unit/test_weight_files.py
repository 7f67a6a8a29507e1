"""The weights of a folder are found however they were saved, or it is said what the folder holds."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from video_vae.errors import UserError
from video_vae.weights.files import STEM, choose_weights, find_model

SHARDS = [f"{STEM}-0000{number}-of-00002.safetensors" for number in (1, 2)]


def make(folder: Path, *names: str) -> Path:
    """Make a folder with files of these names; an index lists SHARDS."""
    folder.mkdir(parents=True, exist_ok=True)
    index = json.dumps({"metadata": {}, "weight_map": {f"t{number}": name for number, name in enumerate(SHARDS)}})
    for name in names:
        (folder / name).write_text(index if ".index." in name else name)
    return folder


@pytest.mark.parametrize(
    ("taken", "beside"),
    [
        (f"{STEM}.safetensors", [f"{STEM}.fp16.safetensors", f"{STEM}.bin", "sdxl_vae.safetensors", "README.md"]),
        (f"{STEM}.fp16.safetensors", [f"{STEM}.fp16.bin"]),
        (f"{STEM}.bin", [f"{STEM}.fp16.safetensors"]),  # full precision before half
        (f"{STEM}.safetensors.index.json", SHARDS),
        (f"{STEM}.safetensors.index.fp16.json", [f"{STEM}-00001-of-00001.fp16.safetensors"]),
        ("sdxl_vae.safetensors", ["sdxl_vae.ckpt"]),
        ("vae-ft-mse.ckpt", ["v1-inference.yaml"]),
        ("model.safetensors", ["model.fp16.safetensors"]),
        ("model.SAFETENSORS", []),
    ],
)
def test_what_is_taken_of_a_folder(taken: str, beside: list[str]) -> None:
    assert choose_weights([*beside, taken, "config.json"], "here") == taken


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["README.md", "model.msgpack"], "here: 0 weight files (it holds README.md, model.msgpack); name a folder"),
        ([], "0 weight files (it holds no file)"),
        (["a-v1.2.ckpt", "a-v1.3.ckpt"], "2 weight files (a-v1.2.ckpt, a-v1.3.ckpt); name one of them"),
        ([f"{STEM}.fp16.safetensors", f"{STEM}.bf16.safetensors"], "2 weight files"),
        (SHARDS, "shards without their list, a file that ends in .index.json"),
    ],
)
def test_what_cannot_be_taken_is_said(names: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        choose_weights(names, "here")
    assert said in str(error.value)


def test_only_the_models_own_files_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "config.json", f"{STEM}.safetensors.index.json", *SHARDS, "README.md", "sdxl_vae.ckpt")
    model = find_model(folder)
    assert [path.name for path in model.files] == ["config.json", f"{STEM}.safetensors.index.json", *SHARDS]
    lines = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in SHARDS)
    assert model.sha256() == hashlib.sha256(lines.encode()).hexdigest()  # sha256sum SHARDS | sha256sum


def test_a_file_may_be_named_in_place_of_its_folder(tmp_path: Path) -> None:
    folder = make(tmp_path, "config.json", f"{STEM}.fp16.safetensors", f"{STEM}.bf16.safetensors")
    file = folder / f"{STEM}.bf16.safetensors"
    model = find_model(file)
    assert model.files == [folder / "config.json", file]
    assert model.sha256() == hashlib.sha256(file.name.encode()).hexdigest()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"{STEM}.safetensors"], f"spatial VAE FOLDER: {STEM}.safetensors without config.json; copy"),
        (["config.json", f"{STEM}.bin.index.json"], f"{STEM}.bin.index.json: {', '.join(SHARDS)} not found beside it"),
        (["config.json"], "spatial VAE FOLDER: 0 weight files (it holds config.json)"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        find_model(make(tmp_path, *names), "spatial VAE")
    assert said.replace("FOLDER", str(tmp_path)) in str(error.value)


def test_a_pipeline_says_which_folder_of_it_may_be_meant(tmp_path: Path) -> None:
    make(tmp_path / "vae", "config.json", f"{STEM}.safetensors")
    make(tmp_path, "model_index.json")
    with pytest.raises(UserError, match=r"beside its folder vae, which may be meant\): 0 weight files"):
        find_model(tmp_path)
    assert find_model(tmp_path / "vae").config == tmp_path / "vae" / "config.json"


def test_broken_lists_and_pointers_of_git_lfs_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "config.json")
    for content in ("", "{}", '{"weight_map": {"t": "../up.safetensors"}}', '{"weight_map": {}}'):
        (folder / f"{STEM}.safetensors.index.json").write_text(content)
        with pytest.raises(UserError, match="not a list of shards beside it"):
            find_model(folder)
    (folder / f"{STEM}.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="git lfs pull"):
        find_model(folder)
    with pytest.raises(UserError, match="no such file or folder"):
        find_model(folder / "typo")


def test_naming_files_imports_no_torch() -> None:
    code = "import sys, video_vae.weights.files; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
