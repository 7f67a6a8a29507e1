"""Frames reach the model resized without distortion, and come back from it unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_vae.data.transform import resize_crop, to_tensor, to_uint8


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(272, 640), (640, 272), (97, 131), (30, 40), (96, 96)])
def test_any_size_becomes_the_wanted_one(size: tuple[int, int]) -> None:
    frames = resize_crop(noise(2, *size, 3), (96, 64))
    assert frames.shape == (2, 96, 64, 3)
    assert frames.dtype == np.uint8


def test_frames_of_the_right_size_are_untouched() -> None:
    frames = noise(3, 64, 96, 3)
    assert np.array_equal(resize_crop(frames, (64, 96)), frames)


def test_the_centre_is_kept_and_nothing_is_stretched() -> None:
    frames = np.zeros((1, 200, 400, 3), np.uint8)
    rows, columns = np.mgrid[:200, :400]
    frames[0, (rows - 99.5) ** 2 + (columns - 199.5) ** 2 < 80**2] = 255  # a disc in the middle
    disc = resize_crop(frames, (100, 100))[0, ..., 0] > 127
    assert disc.any(axis=0).sum() == disc.any(axis=1).sum() == 80
    assert np.array_equal(disc, disc[::-1, ::-1])


def test_fine_patterns_are_averaged_not_sampled() -> None:
    frames = np.zeros((1, 256, 256, 3), np.uint8)
    frames[:, :, ::2] = 255
    assert abs(resize_crop(frames, (64, 64))[:, :, 2:-2].astype(int) - 127).max() <= 2


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    frames = noise(40, 60, 80, 3)
    assert np.array_equal(resize_crop(frames, (32, 32))[[0, 37]], resize_crop(frames[[0, 37]], (32, 32)))


def test_a_round_trip_through_the_model_range_is_exact() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1).repeat(3, axis=3)
    video = to_tensor(frames)
    assert video.shape == (3, 2, 8, 16)
    assert (video.min().item(), video.max().item()) == (-1, 1)
    assert np.array_equal(to_uint8(video), frames)


def test_values_out_of_range_are_clamped() -> None:
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0]).view(3, 1, 1, 1)).tolist() == [[[[0, 255, 128]]]]
