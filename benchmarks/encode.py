"""`video-vae encode` against the plain loop: read a clip whole, encode it, keep it, go on with the next."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.common import OURS, ROOT, Options, compare, markdown, ratio, spread
from benchmarks.windows import write_video
from video_vae import config
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import read_clip
from video_vae.latents.encoder import Encoder, View
from video_vae.latents.video_shards import write_shard
from video_vae.models import VideoAutoencoderKL
from video_vae.weights.loading import build_temporal, load_spatial

SIZE = (64, 96)


def model(device: torch.device) -> VideoAutoencoderKL:
    """Make a net of the demo's size, around the demo's spatial VAE."""
    temporal = config.Temporal(base_channels=16, layers_per_block=1, norm_num_groups=4, init="interpolate")
    spatial = load_spatial(config.Spatial(pretrained=None), ROOT / "workflow" / "weights" / "spatial_vae")
    vae: VideoAutoencoderKL = VideoAutoencoderKL(spatial, build_temporal(temporal, 0), scaling_factor=1.0)
    return vae.to(device).eval().requires_grad_(False)


def run(options: Options) -> str:
    """Encode H.264 clips of 320x240, resized to 96x64, both ways."""
    frames, count = (20, 2) if options.quick else (60, 4)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = model(device)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            write_video(Path(folder) / f"{number}.mp4", frames + number)  # of other content: copies are one clip
        clips = read_table(folder)
        total = sum(clip.num_frames for clip in clips)
        view = View(resolution=SIZE, zoom=1.0, sampling=Sampling())
        encoder = Encoder(model=vae, device=device, view=view, dtype=torch.float32, settings={"dtype": "float32"})

        @torch.inference_mode()
        def plain() -> None:
            """Encode clip by clip."""
            latents = {}
            for clip in clips:
                pixels = to_tensor(resize_crop(read_clip(clip), SIZE))[None].to(device)
                latents[clip.clip_id] = vae.encode_latents(pixels)[0].cpu()
            save_file(latents, Path(folder) / "plain.safetensors")

        def ours() -> None:
            """Encode as the command does."""
            made = dict(zip((clip.clip_id for clip in clips), encoder.all(clips), strict=True))
            write_shard(Path(folder) / "ours.safetensors", {n: v for n, v in made.items() if isinstance(v, Tensor)}, {})

        seconds = compare({"the plain loop": plain, OURS: ours}, options.rounds, options.clock)
    rows = [
        [name, f"{total / spread(values)[0]:.0f}", ratio(seconds["the plain loop"], values)]
        for name, values in seconds.items()
    ]
    title = f"{len(clips)} clips to latents, {total} frames of 320x240 resized to {SIZE[1]}x{SIZE[0]}, on {device.type}"
    return markdown(title, ["", "frames/s, median", "speed-up, median (quartiles)"], rows)
