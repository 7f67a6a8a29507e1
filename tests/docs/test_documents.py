"""Every command and setting in the documents is tested, in the way that its mark says (CONTRIBUTING.md)."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from PIL import Image
from snakemake.cli import parse_args

import document_checks as checks
from documents import ROOT, Block, documents, faults, read_blocks
from material import make_video_vae, write_clips
from video_vae.config import load_config, parse_config
from video_vae.errors import UserError
from video_vae.report.graph import parse_dot
from video_vae.report.provenance_view import rerun_commands
from workflow.workflow_material import Checkout, copy_checkout

BLOCKS = [block for document in documents() for block in read_blocks(document)]
COMMENTED = ("config/*.yaml", "workflow/Snakefile", "workflow/profiles/*/config.yaml")


def _marked(*kinds: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.kind in kinds]


def _block(text: str, kind: str, language: str = "sh", answer: str = "") -> Block:
    return Block(document="broken.md", line=1, language=language, text=text, kind=kind, answer=answer)


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout to plan in: the real workflow and configs, the documents' files and clips."""
    checkout = copy_checkout(tmp_path_factory.mktemp("planned"))
    (checkout.folder / "my_clips").mkdir()
    for block in BLOCKS:
        if block.kind == "file":
            checks.write_file(checkout.folder, block)
    return checkout


@pytest.fixture(scope="session")
def plans(stubs: Checkout) -> dict[str, list[tuple[int, str]]]:
    """Exit status and output of every dry run, by the place of its block."""
    asked = [(block.place, words) for block in BLOCKS if block.kind == "dry-run" for words in block.commands]
    found: dict[str, list[tuple[int, str]]] = {}
    for (place, _), result in zip(asked, checks.plan([words for _, words in asked], stubs.folder), strict=True):
        found.setdefault(place, []).append(result)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout as a reader has it, with clips in `my_clips` and a model in `results/demo/stage3`."""
    for name in ("config", "src", "workflow", "slurm", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    write_clips(tmp_path / "my_clips", frames=48, height=72, width=96)
    Image.effect_mandelbrot((96, 80), (-2, -1, 1, 1), 30).convert("RGB").save(tmp_path / "my_clips" / "photo.png")
    chunk_frames = load_config(ROOT / "config/demo.yaml").model.chunk_frames
    make_video_vae(tmp_path / "results" / "demo" / "stage3", chunk_frames=chunk_frames)
    return tmp_path


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_of_commands_says_how_it_is_tested(document: Path) -> None:
    assert not list(faults(document))


@pytest.mark.parametrize("block", _marked("dry-run"))
def test_the_workflow_plans_what_is_written(block: Block, plans: dict[str, list[tuple[int, str]]]) -> None:
    for words, (status, output) in zip(block.commands, plans[block.place], strict=True):
        assert status == 0, f"{block.place}: {words}\n{output}"


@pytest.mark.parametrize("block", _marked("parse"))
def test_the_programs_take_the_options_that_are_written(block: Block) -> None:
    for words in block.commands:
        checks.parse(words)


@pytest.mark.parametrize("block", _marked("make"))
def test_the_targets_of_make_exist(block: Block) -> None:
    for words in block.commands:
        checks.make(words)


@pytest.mark.parametrize("block", _marked("syntax", "run", "slow", "fails"))
def test_the_shell_and_python_read_what_is_written(block: Block) -> None:
    checks.read_only(block)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind in ("config", "file") and b.language == "yaml"])
def test_settings_are_known_and_in_their_ranges(block: Block) -> None:
    parse_config(yaml.safe_load(block.text), block.place)


def test_the_picture_of_the_rules_shows_all_of_them() -> None:
    status, output = checks.plan([["snakemake", "--configfile", "config/demo.yaml", "--rulegraph", "dot"]], ROOT)[0]
    picture = (ROOT / "docs" / "images" / "rulegraph.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">([a-z0-9_]+)</text>", picture))
    planned = {label for _, label in parse_dot(output).nodes(data="label")}
    assert status == 0 and planned == drawn, "run workflow/scripts/draw_rulegraph.py"


def _documents_with(*kinds: str) -> list[object]:
    found: dict[str, list[Block]] = {}
    for block in BLOCKS:
        found.setdefault(block.document, []).append(block)
    return [pytest.param(blocks, id=name) for name, blocks in found.items() if {b.kind for b in blocks} & {*kinds}]


@pytest.mark.parametrize("blocks", _documents_with("run", "fails"))
def test_commands_do_what_is_written(blocks: Sequence[Block], project: Path) -> None:
    checks.run_document([block for block in blocks if block.kind != "slow"], project)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("blocks", _documents_with("slow"))
def test_commands_that_take_longer_do_what_is_written(blocks: Sequence[Block], project: Path) -> None:
    checks.run_document(blocks, project)


def test_commands_in_comments_and_in_the_report_name_targets_and_configs() -> None:
    files = [path for place in COMMENTED for path in ROOT.glob(place)]
    lines = [
        match[1].split("  ")[0]
        for path in files
        for match in re.finditer(r"# .*?(snakemake [^\n(`]*--\w+[^\n(`]*)", path.read_text(encoding="utf-8"))
    ]
    assert len(lines) >= 4
    lines += [command for _, command in rerun_commands(["train_stage2"], "config/demo.yaml")]
    for line in lines:
        # a profile may name plugins that the lock leaves out, which the parser does not know
        words = re.sub(r"--profile \S+", "", line)
        assert all(Path(ROOT, name, "config.yaml").is_file() for name in re.findall(r"--profile (\S+)", line)), line
        _, given = parse_args(_block(words, "dry-run").commands[0][1:])
        assert all(Path(ROOT, config).is_file() for config in given.configfile), line
        assert given.targets or given.until, line


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```sh\nmake test\n```\n", "put <!-- test: KIND --> before"),
        ("<!-- test: pray -->\n```sh\nmake test\n```\n", "does not suit sh"),
        ("<!-- test: syntax -->\n```sh\nsbatch job\n```\n", "lacks the reason"),
        ("<!-- test: make -->\n\n```sh\nmake test\n```\n", "on the line before a block"),
        ("```\nmake test\n```\n", "a block of nothing"),
        ("Run\n\n    make test\n", "an indented block is not tested"),
        ("<!-- test: make -->\n```sh\nmake test\n", "is not closed"),
    ],
)
def test_a_block_that_would_escape_is_found(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text(text, encoding="utf-8")
    assert fault in "\n".join(faults(tmp_path / "broken.md"))


def test_a_broken_command_of_each_kind_is_found(stubs: Checkout, tmp_path: Path) -> None:
    # --configfile takes all that follows, so that this plans nothing
    wrong = "snakemake --configfile config/demo.yaml results/metrics.csv"
    assert checks.plan(_block(wrong, "dry-run").commands, stubs.folder)[0][0] != 0
    with pytest.raises(SystemExit):
        checks.parse(["torchrun", "--standalone", "-m", "video_vae.train", "CONFIG", "--stage", "stage4"])
    with pytest.raises(AssertionError, match="No rule to make target"):
        checks.make(["make", "everything"])
    with pytest.raises(AssertionError, match="unexpected EOF"):
        checks.read_only(_block("echo 'open\n", "syntax"))
    with pytest.raises(AssertionError, match="not found"):
        checks.run(_block("video-va --help\n", "run"), tmp_path)
    with pytest.raises(AssertionError, match="does not print 'two'"):
        checks.run(_block("echo one\n", "run", answer="two\n"), tmp_path)
    with pytest.raises(AssertionError):
        checks.run(_block("echo nothing wrong\n", "fails"), tmp_path)
    with pytest.raises(UserError, match="unknown key"):
        parse_config(yaml.safe_load("data: {source: [x]}"))
