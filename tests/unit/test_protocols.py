"""Results say under which protocol they are; a protocol's clips and its set are checked before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from clips import write_video
from material import write_clips
from video_vae.cli import main
from video_vae.config import Config, parse_config, slices
from video_vae.config.protocols import PROTOCOLS, protocol_text, scored_as
from video_vae.config.runs import evaluation_owner, reconstruction_owner, resolve, stage_owner
from video_vae.config.types import ProtocolName
from video_vae.data.benchmark import BENCHMARKS, differs, find_clips, flat, load_benchmark
from video_vae.data.fit import unfit
from video_vae.data.split import assign_split
from video_vae.data.table import Clip, read_csv_rows, write_table
from video_vae.doctor.inputs import missing_inputs
from video_vae.errors import UserError
from video_vae.metrics.collect_metrics import Entry, table_of
from video_vae.metrics.conditions import stated
from video_vae.records import Record
from video_vae.verification.settings import setting_differences


def config(protocol: str, **changes: Any) -> Config:
    evaluation = {"protocol": protocol, **changes.pop("evaluation", {})}
    return parse_config({"evaluation": evaluation, **changes})


def clip(name: str, frames: int, height: int = 480, width: int = 854, split: str = "test") -> Clip:
    values = {"clip_id": name, "path": name, "kind": "video", "source_id": name, "split": split}
    sizes = {"height": height, "width": width, "fps": 30.0, "aspect_ratio": 1.0, "resolution": 1, "text": ""}
    return Clip(start_frame=0, num_frames=frames, **values, **sizes)  # type: ignore[arg-type]


def stand_ins(folder: Path, names: Iterable[str]) -> Path:
    """Make folders of two small frames each under the names of a set's sequences."""
    for name in names:
        place = folder / name
        place.mkdir(parents=True)
        for frame in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place / f"{frame:05d}.jpg")
    return folder


def test_a_protocol_sets_what_is_scored_and_nothing_of_the_training() -> None:
    plain, named = parse_config({}), config("open-sora-report")
    scored = parse_config(slices.reconstruct_slice(named))
    assert (scored.data.resolution, scored.data.fps, scored.data.frame_interval) == ((256, 256), 24.0, 1)
    assert (scored.reconstruction.max_frames, scored.reconstruction.windows) == (17, 1)
    assert set(scored_as(named).evaluation.metrics) == {"ssim", "psnr", "lpips", "flolpips"}
    assert protocol_text(named) == "open-sora-report" and protocol_text(plain) is None
    assert all(slices.stage_slice(named, s) == slices.stage_slice(plain, s) for s in ("stage1", "stage2", "stage3"))
    assert slices.data_slice(named) == slices.data_slice(plain) and scored_as(plain) is plain
    assert set(PROTOCOLS) == set(get_args(ProtocolName))
    assert all(value.benchmark is None or value.benchmark in BENCHMARKS for value in PROTOCOLS.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"resolution": [128, 64]}}, "resolution 128x64 instead of 256x256"),
        ({"data": {"zoom": 2}}, "crop 2 instead of 1"),
        ({"data": {"fps": 12}}, "rate 12 instead of as it is"),
        ({"data": {"frame_interval": 3}}, "stride 3 instead of 1"),
        ({"reconstruction": {"max_frames": 17}}, "frames 17 instead of 33"),
        ({"reconstruction": {"max_frames": None, "windows": 9}}, "frames all instead of 33; windows 9 instead of 1"),
        ({"reconstruction": {"sample": True}}, "posterior drawn instead of mode"),
        ({"evaluation": {"metrics": ["psnr", "vmaf"]}}, "without ssim, lpips"),
    ],
)
def test_settings_that_leave_a_protocol_stay_and_are_said(changes: dict[str, Any], said: str) -> None:
    assert protocol_text(config("wf-vae", **changes)) == f"wf-vae, modified: {said}"


def test_more_metrics_than_a_protocol_has_leave_it_as_it_is() -> None:
    more = config("wf-vae", evaluation={"metrics": ["psnr", "ssim", "lpips", "flicker"]})
    assert protocol_text(more) == "wf-vae" and "flicker" in scored_as(more).evaluation.metrics


def test_runs_under_two_protocols_share_a_training_and_no_scores() -> None:
    other = {"b": {"evaluation": {"protocol": "wf-vae"}}, "c": {"evaluation": {"protocol": "davis"}}}
    runs = resolve(parse_config({"experiment": "a", "experiments": other}))
    assert {stage_owner(runs, name, "stage3") for name in runs} == {"a"}
    assert [reconstruction_owner(runs, name, "stage3") for name in runs] == ["a", "b", "c"]
    assert [evaluation_owner(runs, name, "stage3") for name in runs] == ["a", "b", "c"]


def test_clips_that_are_too_short_or_too_small_are_named_with_the_cure() -> None:
    held_out = [clip("fits", 40), clip("short", 20), clip("small", 40, 144, 176)]
    said = unfit(config("wf-vae"), held_out)
    assert "shorter than 33 frames: 1 of 3 held-out clips (short: 20)" in said and "small: 144x176" in said
    assert "data.min_frames: 33 and data.min_size: 256" in said and "\n" not in said
    said = unfit(config("open-sora-report"), [clip("fast", 20)])
    assert "(fast: 16)" in said and "data.min_frames: 21" in said  # at 24 frames per second, and at the clip's 30
    assert not unfit(config("open-sora-report"), [clip("long", 21)])
    assert not unfit(config("wf-vae", reconstruction={"max_frames": 17}), held_out[:2])
    assert not unfit(parse_config({}), held_out)


def test_the_manifest_refuses_clips_that_do_not_fit_a_protocol(tmp_path: Path, capsys: Any) -> None:
    for number, name in enumerate(("a", "b", "c")):
        write_video(tmp_path / f"{name}.mp4", frames=20, seed=number)
    settings = {"data": {"sources": [str(tmp_path)], "min_frames": 5, "min_size": 8}}
    scored = json.dumps({"evaluation": {"protocol": "wf-vae"}})
    asked = ["manifest", json.dumps(settings), "--output-dir", str(tmp_path / "data"), "--workers", "1"]
    assert main([*asked, "--scored-as", scored]) != 0
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "shorter than 33 frames: 1 of 1 held-out clips" in said and "96x128" in said
    assert not (tmp_path / "data" / "test.csv").exists()


def test_a_run_and_a_reconstruction_by_hand_refuse_listed_clips_that_do_not_fit(tmp_path: Path, capsys: Any) -> None:
    results = tmp_path / "results"
    table = results / "paper" / "data" / "test.csv"
    write_table(table, [clip("a", 24)])
    lines = [line for line in missing_inputs(resolve(config("wf-vae")), results) if "protocol" in line]
    assert len(lines) == 1 and lines[0].startswith("evaluation.protocol: wf-vae: shorter than 33 frames: 1 of 1")
    assert not [line for line in missing_inputs(resolve(config("open-sora-report")), results) if "protocol" in line]
    settings = json.dumps({"evaluation": {"protocol": "wf-vae"}})
    asked = ["--data-path", str(table), "--ckpt-path", "nowhere", "--save-dir", str(tmp_path / "x")]
    assert main(["reconstruct", settings, *asked]) != 0
    assert "evaluation.protocol: wf-vae: shorter than 33 frames: 1 of 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", BENCHMARKS)
def test_lists_of_sets_hold_names_once_and_say_where_they_are_from(name: str) -> None:
    benchmark = load_benchmark(name)
    assert len({flat(entry) for entry in benchmark.entries}) == len(benchmark.entries) > 0
    assert benchmark.where.startswith("https://") and benchmark.source.startswith("https://") and benchmark.licence
    assert [benchmark.owner(flat(entry)) for entry in benchmark.entries] == benchmark.entries
    assert benchmark.owner("nobody") is None and not differs(benchmark, map(flat, benchmark.entries))


def test_a_folder_is_told_to_be_a_set_or_what_is_missing_or_foreign(tmp_path: Path, capsys: Any) -> None:
    davis = load_benchmark("davis")
    frames = stand_ins(tmp_path / "DAVIS" / "JPEGImages" / "480p", davis.clips)
    stand_ins(tmp_path / "DAVIS" / "Annotations" / "480p", ["bear"])
    table = tmp_path / "davis.csv"
    asked = ["manifest", "--benchmark", "davis", str(tmp_path / "DAVIS")]
    assert main([*asked, "--output", str(table)]) == 0
    assert "DAVIS 2016, its 50 sequences, all there (50 clips)" in capsys.readouterr().out
    rows = read_csv_rows(table)[1]
    assert [row["clip_id"] for row in rows] == sorted(davis.clips) and {row["split"] for row in rows} == {"test"}
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n1,2\n", encoding="utf-8")
    assert main([*asked, "--output", str(mine)]) != 0 and mine.read_text(encoding="utf-8") == "a,b\n1,2\n"
    assert main([*asked, "--output", str(table)]) == 0  # its own is written again
    capsys.readouterr()
    (frames / "bear").rename(frames / "my-bear")
    write_video(frames / "more.mp4", frames=2)
    assert main(asked) != 0
    said = capsys.readouterr().err
    assert "missing: 1 of 50 clips (bear)" in said
    assert "foreign, to be taken out: 2 (JPEGImages/480p/more.mp4, JPEGImages/480p/my-bear)" in said
    assert "https://davischallenge.org" in said and len(said.strip().splitlines()) == 1


def test_files_of_other_layouts_are_known_and_raw_ones_are_told(tmp_path: Path) -> None:
    bench = load_benchmark("tokenbench")
    ego = next(name for name in bench.clips if name.count("/") == 2 and "cam01" in name)
    assert bench.owner(*("_".join(ego.split("/")[at:]) for at in range(3))) == ego
    assert bench.owner("bdd_100_0114bdd0-f317da84") == "0114bdd0-f317da84"
    assert bench.owner(f"panda_{bench.starts[0]}_3") == bench.starts[0]
    (tmp_path / "videoSRC01_1920x1080_30.yuv").write_bytes(b"\0")
    with pytest.raises(UserError, match=r"missing: 30 of 30 clips.*of these raw \.yuv: 1,"):
        find_clips(load_benchmark("mcl-jcv"), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_clips(bench, tmp_path / "nowhere")
    with pytest.raises(UserError, match="known: davis"):
        load_benchmark("devis")


def test_results_say_where_their_clips_are_not_the_set() -> None:
    scores: Any = [SimpleNamespace(clip_id=name) for name in ("bear", "dog", "mine")]
    said = stated("davis", scores)["protocol"]
    assert said == "davis, modified: 2 of the 50 clips and 1 other clip"
    assert stated("davis, modified: frames 9 instead of all", scores)["protocol"].endswith(
        "all; 2 of the 50 clips and 1 other clip"
    )
    assert stated("wf-vae", scores) == {"protocol": "wf-vae"} and stated(None, scores) == {}


def test_tables_that_hold_all_out_are_for_runs_that_train_nothing() -> None:
    assert {row.split for row in assign_split([clip("a", 9), clip("b", 9)], parse_config({}).data.split, 0)} == {"test"}


def test_summary_table_and_verify_state_the_protocol(tmp_path: Path) -> None:
    write_clips(tmp_path / "x_ori", frames=5)
    write_clips(tmp_path / "x_rec", frames=5)
    text = "wf-vae, modified: frames 5 instead of 33"
    folders = [f"--real_video_dir={tmp_path / 'x_ori'}", f"--generated_video_dir={tmp_path / 'x_rec'}"]
    asked = ["evaluate", *folders, "--metric", "psnr", "--output_dir", str(tmp_path / "m"), "--under", text]
    assert main(asked) == 0
    header, rows = table_of([Entry("run", "stage3", tmp_path / "m" / "summary.json")])
    assert rows[0]["protocol"] == text and "protocol" in header
    record = Record(path="run.json", values=json.loads((tmp_path / "m" / "run.json").read_text()))
    five = {"reconstruction": {"max_frames": 5}}
    now = list(setting_differences(config("wf-vae", **five), record, "run"))
    assert not [line for line in now if "protocol" in line]
    later = list(setting_differences(config("davis", **five), record, "run"))
    assert [line for line in later if "evaluation.protocol" in line]
