"""`data.fps` shows clips of any frame rate with the same motion per frame, by their time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from clips import video_stream
from video_vae.config import Data, Split
from video_vae.data.build_manifest import build_manifest
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.sources import collect
from video_vae.data.table import Clip, write_table
from video_vae.data.video import read_clip
from video_vae.errors import UserError

TICKS = 600
DATA = Data(min_frames=5, min_size=16, split=Split(by="segment", segment_frames=1000))


def film(path: Path, times: Sequence[Fraction], fps: Fraction | int, codec: str = "ffv1") -> Path:
    """Write frames at these times (seconds), each a plane as bright as its time: 100 grey levels a second."""
    with av.open(str(path), "w") as output:
        stream = video_stream(output, codec, fps, (32, 32))
        stream.codec_context.time_base = Fraction(1, TICKS)
        for time in times:
            level = 16 + round(time * 100)
            planes = np.repeat(np.array([level, 128], dtype=np.uint8), (32, 16))  # luma, then both chroma planes
            frame = av.VideoFrame.from_ndarray(np.tile(planes[:, None], 32), format="yuv420p")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def even(fps: int, seconds: int = 2) -> list[Fraction]:
    return [Fraction(index, fps) for index in range(seconds * fps)]


def listed(path: Path, **settings: object) -> tuple[list[Clip], list[str]]:
    """Make the manifest of a folder, not probing more than is there; return its clips and what was rejected."""
    data = DATA.model_copy(update=settings)
    clips, rejected = build_manifest(collect([str(path)]), data, seed=0, workers=1)
    return clips, [row.detail for row in rejected]


def seen(clip: Clip, sampling: Sampling) -> list[int]:
    """Return the brightness of each frame that the model sees."""
    return [int(level) for level in read_clip(clip, sampling.indices(clip))[:, 0, 0, 1]]


RATES = {f"at{fps}.mkv": even(fps) for fps in (12, 24, 25, 30, 48, 60)}
RATES["at50.mp4"] = even(50)
RATES["ntsc.mkv"] = [Fraction(1001 * index, 30000) for index in range(60)]
RATES["phone.mkv"] = [Fraction(sum(20 + 17 * (place % 4) for place in range(index)), TICKS) for index in range(24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of the same motion at many frame rates, one of them uneven."""
    place = tmp_path_factory.mktemp("rates")
    for name, times in RATES.items():
        rate = Fraction(len(times) - 1) / times[-1]
        film(place / name, times, rate.limit_denominator(1001), "ffv1" if name.endswith("mkv") else "libx264")
    return place


@pytest.fixture(scope="module")
def clips(folder: Path) -> dict[str, Clip]:
    """The manifest of them at 24 frames per second, read back from its CSV."""
    found, rejected = listed(folder, fps=24.0)
    assert rejected == []
    write_table(folder / "manifest.csv", found)
    again = read_table(folder / "manifest.csv")
    counts = [[Sampling(fps=24).count(clip) for clip in table] for table in (found, again)]
    assert counts[0] == counts[1] and [clip.seconds for clip in again] == [clip.seconds for clip in found]
    return {Path(clip.path).name: clip for clip in again}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("fps", [24, 10, 23.976])
def test_each_moment_shows_the_frame_nearest_in_time(clips: dict[str, Clip], name: str, fps: float) -> None:
    clip, times, sampling = clips[name], RATES[name], Sampling(fps=fps)
    indices = sampling.indices(clip)
    length = times[-1] + 1 / Fraction(clip.fps or 1)
    assert len(indices) == sampling.count(clip) == round(length * Fraction(str(fps)))
    for moment, index in enumerate(indices):
        wanted = moment / Fraction(str(fps))
        assert abs(times[index] - wanted) <= min(abs(time - wanted) for time in times) + Fraction(1, 500)


def test_clips_of_any_rate_show_the_same_motion_per_frame(clips: dict[str, Clip]) -> None:
    for name in ("at24.mkv", "at25.mkv", "at30.mkv", "at50.mp4", "at60.mkv"):
        levels = seen(clips[name], Sampling(fps=24))
        assert len(levels) == 48
        moved = np.asarray(levels) / 255 * 219 / 100 - np.arange(48) / 24  # seconds ahead of the moment
        assert np.abs(moved).max() <= 0.5 / 24 + 0.01


def test_the_manifest_says_what_each_clip_is_sampled_by(clips: dict[str, Clip]) -> None:
    said = {name: (clip.handling, clip.step, clip.seconds) for name, clip in clips.items()}
    assert said["at24.mkv"] == ("", 1.0, 2.0)
    assert said["at30.mkv"] == ("resampled", 1.25, 2.0)
    assert said["at60.mkv"] == ("resampled", 2.5, 2.0)
    assert said["phone.mkv"][0] == "resampled"


def test_without_a_rate_frames_are_taken_as_they_are(folder: Path) -> None:
    found, _ = listed(folder, frame_interval=2)
    assert {(clip.handling, clip.step) for clip in found} == {("", 2.0)}
    for clip in found:
        assert list(Sampling(frame_interval=2).indices(clip)) == list(range(0, clip.num_frames, 2))


def test_an_interval_counts_the_resampled_frames(clips: dict[str, Clip]) -> None:
    every, third = Sampling(fps=24), Sampling(fps=24, frame_interval=3)
    for clip in clips.values():
        assert list(third.indices(clip)) == list(every.indices(clip))[::3]
        assert third.count(clip) == len(third.indices(clip))


def test_too_few_frames_are_counted_after_resampling(folder: Path) -> None:
    with pytest.raises(UserError, match=r"at12.mkv: 24 frames, 12 with data.fps 6, data.min_frames is 13"):
        listed(folder, fps=6.0, min_frames=13)
    assert len(listed(folder, fps=6.0, min_frames=11)[0]) == len(RATES)


def test_segments_start_at_their_own_first_frame(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text(f"path,start,end\n{folder}/phone.mkv,0.5,1.5\n{folder}/at60.mkv,0.5,1.5\n", encoding="utf-8")
    parts, _ = listed(table, fps=24.0)
    for clip in parts:
        times = RATES[Path(clip.path).name]
        inside = [time for time in times if Fraction(1, 2) <= time < Fraction(3, 2)]
        assert [times[clip.start_frame], clip.num_frames] == [inside[0], len(inside)]
        sampling = Sampling(fps=24)
        assert sampling.indices(clip)[0] == 0 and sampling.count(clip) == round((clip.seconds or 0) * 24)


def test_pieces_of_a_split_by_segment_have_their_own_length(folder: Path) -> None:
    found, _ = listed(folder / "phone.mkv", fps=24.0, split=Split(by="segment", segment_frames=16, test_fraction=0.4))
    times = [*RATES["phone.mkv"], RATES["phone.mkv"][-1] + Fraction(found[0].fps or 1) ** -1]
    for clip in found:
        shown = times[clip.start_frame + clip.num_frames] - times[clip.start_frame]
        assert clip.seconds == pytest.approx(float(shown), abs=2e-3)


def test_animations_are_resampled_by_their_frames_durations(tmp_path: Path) -> None:
    pictures = [Image.new("L", (32, 32), 10 * index) for index in range(20)]
    pictures[0].save(
        tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=[50, 150] * 10, lossless=True
    )
    clips, _ = listed(tmp_path, fps=20.0, split=Split(by="segment", segment_frames=10))
    assert [list(Sampling(fps=20).indices(clip))[:8] for clip in clips] == [[0, 1, 1, 2, 2, 3, 3, 4]] * 2


def test_a_rate_out_of_range_is_refused() -> None:
    for wrong in (0.01, 2000):
        with pytest.raises(ValueError, match="fps"):
            Data(fps=wrong)
