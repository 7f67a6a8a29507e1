"""An exported model says what it is in a card that the hub's client understands, and loads as README says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub import ModelCard

from documents import ROOT, read_blocks
from training_material import cached, make_data, options, settings, train_here
from video_vae.cli import main
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.hub.model_card import check_card
from video_vae.metrics.collect_metrics import columns
from video_vae.weights.loading import load_video_vae
from video_vae.weights.open_sora import read_state_dict

SCORES = {
    "experiment": "mine",
    "clips": "2",
    "frames": "18",
    "resolution": "32x32",
    "flow": "dis",
    **{f"psnr{end}": value for end, value in (("", "24.8100"), ("_low", "23.6200"), ("_high", "25.8700"))},
    **{f"lpips{end}": value for end, value in (("", "0.330000"), ("_low", "0.310000"), ("_high", "0.350000"))},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which stage 1 and, from its weights, stage 2 of the run `mine` were trained and scored."""
    folder = tmp_path_factory.mktemp("trained")
    make_data(folder)
    before = Path.cwd()
    os.chdir(folder)  # as the workflow does: its records name paths from here
    try:
        for stage, start in (("stage1", []), ("stage2", ["--init-from", "results/mine/stage1/model"])):
            output = Path("results/mine", stage)
            config = settings(stage, steps=2, identity_weight=0.0)
            extra = [*cached(Path()), *start, "--experiment", "mine"]
            train_here(options(Path(), output, *extra, config=config, stage=stage))
    finally:
        os.chdir(before)
    rows = [
        SCORES | {"stage": stage, "variant": variant, "protocol": "wf-vae"}
        for stage in ("stage1", "stage2")
        for variant in ("rec", "spatial")
    ]
    header = columns(more=["protocol"])
    lines = [",".join(row.get(name, "") for name in header) for row in rows]
    (folder / "results/metrics.csv").write_text("\n".join([",".join(header), *lines]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    model, output = trained / "results/mine/stage2/model", trained / "my_model"
    arguments = ["export", str(model), "--format", "diffusers", "--license", "cc-by-4.0", "--output", str(output)]
    assert main(arguments) == 0
    return output


def test_the_hubs_client_reads_scores_and_licence_from_the_card(exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("cc-by-4.0", "video-vae", "my_model")
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["psnr"].metric_value == 24.81 and "95 % interval 23.6200 to 25.8700" in results["psnr"].metric_name
    assert results.keys() == {"psnr", "lpips"}


def test_the_card_tells_data_recipe_weights_licence_and_limits(exported: Path, trained: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")
    assert [part.splitlines()[0] for part in sections[1:]] == [
        "Use", "Scores", "Data", "Recipe", "Weights", "Licence", "Limits"
    ]  # fmt: skip
    said = {part.splitlines()[0]: part for part in sections[1:]}
    assert "24.8100 (23.6200 to 25.8700)" in said["Scores"] and "2 held-out clips, 18 frames at 32x32" in said["Scores"]
    assert "; protocol wf-vae." in said["Scores"]
    assert sha256_file(trained / "train.csv") in said["Data"]
    assert "| Stage 1 | temporal VAE | 2 |" in said["Recipe"] and "| Stage 2 | temporal VAE | 2 |" in said["Recipe"]
    assert sha256_file(exported / "diffusion_pytorch_model.safetensors") in said["Weights"]
    assert "spatial VAE to start from" in said["Weights"] and "results/mine/stage1/model" in said["Weights"]
    assert "not comparable with published FloLPIPS" in said["Limits"]
    assert "AutoencoderKL`, refuses this folder" in said["Use"] and "VideoAutoencoderKL.from_pretrained" in said["Use"]
    with pytest.raises(ValueError, match="VideoAutoencoderKL"):
        AutoencoderKL.from_pretrained(exported, low_cpu_mem_usage=False)


def test_the_card_says_where_held_out_clips_are_pieces_of_what_was_trained_on(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "results", tmp_path / "results")
    record = tmp_path / "results/mine/stage2/run.json"
    values = json.loads(record.read_text(encoding="utf-8"))
    assert values["not_held_out_by_source"] == 0
    record.write_text(json.dumps(values | {"not_held_out_by_source": 1}), encoding="utf-8")
    model, output = tmp_path / "results/mine/stage2/model", tmp_path / "my_model"
    assert main(["export", str(model), "--format", "diffusers", "--output", str(output)]) == 0
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "(not held out by source: 1 of them come from files that are also trained on)" in card


def test_the_five_lines_of_the_readme_load_it_back(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(b for b in read_blocks(ROOT / "README.md") if b.language == "python" and "my_model" in b.text)
    assert len(block.text.split("\n\n")) == 2 and len(block.text.replace("\n\n", "\n").splitlines()) == 5
    monkeypatch.chdir(exported.parent)
    found: dict[str, object] = {}
    exec(compile(block.text, block.place, "exec"), found)  # noqa: S102 (the lines of this project's README)
    video, latents, vae = found["video"], found["latents"], found["vae"]
    assert isinstance(video, torch.Tensor) and video.shape == (1, 3, 17, 96, 96)
    assert isinstance(latents, torch.Tensor) and latents.shape == (1, 4, 5, 12, 12)
    trained = load_video_vae(exported.parent / "results/mine/stage2/model").state_dict()
    assert isinstance(vae, torch.nn.Module)
    assert all(torch.equal(value, trained[name]) for name, value in vae.state_dict().items())


def test_the_published_names_go_out_in_a_folder_with_a_card_too(trained: Path) -> None:
    model, output = trained / "results/mine/stage2/model", trained / "open"
    assert main(["export", str(model), "--format", "open-sora", "--output", str(output)]) == 0
    assert read_state_dict(output).keys() == load_video_vae(model).state_dict().keys()
    card = check_card(output / "README.md")
    assert card.data.to_dict()["license"] == "unknown" and "video-vae import open" in card.text


def test_a_model_without_a_record_says_so(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "alone"
    load_video_vae(trained / "results/mine/stage2/model").save_pretrained(model)
    assert main(["export", str(model), "--format", "diffusers", "--output", str(tmp_path / "out")]) == 0
    card = check_card(tmp_path / "out" / "README.md")
    assert "Not recorded" in card.text and "Not measured" in card.text and "model-index" not in card.data.to_dict()


def test_nothing_tells_where_it_was_trained(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    for stage in ("stage1", "stage2"):
        path = tmp_path / "copy" / "results/mine" / stage / "run.json"
        record = json.loads(path.read_text())
        record["inputs"].get("spatial", {})["path"] = record["config"]["spatial"]["pretrained"] = "/home/someone/vae"
        record["inputs"]["train"]["path"] = "/home/someone/train.csv"
        path.write_text(json.dumps(record))
    for form, output in (("diffusers", "a"), ("open-sora", "b"), ("open-sora", "c.pt")):
        model = tmp_path / "copy" / "results/mine/stage2/model"
        assert main(["export", str(model), "--format", form, "--output", str(tmp_path / output)]) == 0
    written = [path for name in ("a", "b", "c.pt") for path in (tmp_path / name, *(tmp_path / name).glob("*"))]
    texts = [path.read_bytes() for path in written if path.is_file()]
    assert len(texts) == 6 and not [text for text in texts if b"/home" in text or str(tmp_path).encode() in text]
    assert "| `vae` | spatial VAE to start from" in (tmp_path / "a" / "README.md").read_text()


def test_a_licence_or_a_card_that_the_hub_refuses_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(trained / "results/mine/stage2/model"), "--format", "diffusers", "--license", "My own"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "--license 'My own' is not an identifier" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "README.md").write_text("---\nlicense: mit\nmodel-index: 3\n---\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a valid model card"):
        check_card(tmp_path / "README.md")
