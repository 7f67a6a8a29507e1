"""Figures of a clip and its latents, for a notebook."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from video_vae.data.transform import to_uint8
from video_vae.metrics import psnr
from video_vae.report.strips import spread
from video_vae.report.style import colour, drawing, new_figure

WIDTH = 9.0
"""Width of a figure in inches."""
SPREAD = 3.0
"""Latents are drawn from minus to plus so many standard deviations."""
_COLOURS = ("rec", "spatial", "repeat", "mean")


def show_frames(videos: Mapping[str, Tensor], most: int = 6) -> Figure:
    """Draw some frames of each video (1, 3, T, H, W) in [-1, 1]: one row per video, the same frames in each."""
    frames = min(video.shape[2] for video in videos.values())
    places = spread(frames, most)
    height, width = next(iter(videos.values())).shape[3:]
    side = WIDTH / len(places)
    with drawing():
        figure = new_figure(len(videos) * (side * height / width + 0.15) + 0.2, WIDTH)
        grid = figure.subplots(len(videos), len(places), squeeze=False)
        for axes_row, (name, video) in zip(grid, videos.items(), strict=True):
            pictures = to_uint8(video[0][:, places])
            for axes, place, picture in zip(axes_row, places, pictures, strict=True):
                axes.imshow(picture, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.set_title(f"{name}, frame {place}" if place == places[0] else f"frame {place}", fontsize=7.5)
    return figure


def show_psnr(original: Tensor, videos: Mapping[str, Tensor]) -> Figure:
    """Draw the PSNR in dB of each frame of reconstructions against the original, all (1, 3, T, H, W) in [-1, 1]."""
    with drawing():
        figure = new_figure(2.4, WIDTH)
        axes = figure.subplots()
        for name, video, tint in zip(videos, videos.values(), _COLOURS, strict=False):
            values = psnr(_unit(original), _unit(video))
            axes.plot(values.numpy(), label=f"{name}, mean {values.mean():.2f} dB", color=colour(tint))
        axes.set(xlabel="Frame", ylabel="PSNR, dB (higher is better)")
        axes.legend()
    return figure


def _unit(video: Tensor) -> Tensor:
    """Turn (1, 3, T, H, W) in [-1, 1] into what metrics take: (T, 3, H, W) in [0, 1]."""
    return video[0].transpose(0, 1).add(1).div(2).clamp(0, 1)


def show_latents(latents: Tensor, most: int = 6) -> Figure:
    """Draw the channels of normalised latents (1, 4, T', h, w) at some times, and how their values are spread."""
    values = latents[0].float().cpu()
    places = spread(values.shape[1], most)
    grid_x = torch.linspace(-SPREAD, SPREAD, 61)
    with drawing():
        figure = new_figure(1.35 * len(values) + 0.3, WIDTH)
        grid = figure.subplots(len(values), len(places) + 1, squeeze=False)
        for number, (axes_row, channel) in enumerate(zip(grid, values, strict=True), 1):
            for axes, place in zip(axes_row, places, strict=False):
                axes.imshow(channel[place], cmap="PuOr", vmin=-SPREAD, vmax=SPREAD, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.set_title(f"channel {number}, latent {place}" if place == 0 else f"latent {place}", fontsize=7.5)
            last = axes_row[-1]
            last.hist(channel.flatten().clamp(-SPREAD, SPREAD).numpy(), bins=grid_x.numpy(), color=colour("rec"))
            last.set_title(f"mean {channel.mean():.2f}, deviation {channel.std():.2f}", fontsize=7.5)
            last.set(yticks=[])
    return figure
