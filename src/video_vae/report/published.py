"""Figures that others published for video VAEs of the same compression, to stand beside a run."""

from __future__ import annotations

from dataclasses import dataclass

UNPUBLISHED = "test set not published"
SOURCE = "WF-VAE paper, table 1: 33 frames of 256x256"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row; FVD is not measured here."""

    model: str
    data: str
    psnr: float
    ssim: float | None = None
    lpips: float | None = None
    fvd: float | None = None
    note: str = ""
    """Whose figure it is, where it is not `SOURCE`, and of what clips."""


VIDTOK = "VidTok's README: 30 videos, 30 fps, 256x256"
VIDEOVAE = "VideoVAE+ paper (arXiv 2412.17805)"
PUBLISHED: tuple[Published, ...] = (
    Published(model="Open-Sora 1.2 VAE", data="WebVid-10M", psnr=31.14, ssim=0.8572, lpips=0.1001, fvd=475.2),
    Published(model="Open-Sora 1.2 VAE", data="Panda-70M", psnr=31.37, ssim=0.8973, lpips=0.0662, fvd=298.5),
    Published(model="Open-Sora 1.2 VAE", data="its own report", psnr=30.590, ssim=0.880, note=UNPUBLISHED),
    Published(model="Open-Sora-Plan 1.1", data="Open-Sora's report", psnr=29.890, ssim=0.882, note=UNPUBLISHED),
    Published(model="OD-VAE (Open-Sora-Plan 1.2)", data="WebVid-10M", psnr=30.69, ssim=0.8635, lpips=0.0553, fvd=255.9),
    Published(model="OD-VAE (Open-Sora-Plan 1.2)", data="Panda-70M", psnr=30.31, ssim=0.8935, lpips=0.0439, fvd=191.2),
    Published(model="Allegro", data="WebVid-10M", psnr=32.18, ssim=0.8963, lpips=0.0524, fvd=209.7),
    Published(model="Allegro", data="Panda-70M", psnr=31.70, ssim=0.9158, lpips=0.0421, fvd=172.7),
    Published(model="WF-VAE-L", data="WebVid-10M", psnr=32.32, ssim=0.8920, lpips=0.0513, fvd=186.0),
    Published(model="WF-VAE-L", data="Panda-70M", psnr=32.10, ssim=0.9142, lpips=0.0411, fvd=146.2),
    Published(model="SD-VAE, each frame (1x8x8)", data="WebVid-10M", psnr=30.19, ssim=0.8377, lpips=0.0568, fvd=284.9),
    Published(model="SD-VAE, each frame (1x8x8)", data="Panda-70M", psnr=30.46, ssim=0.8896, lpips=0.0395, fvd=183.0),
    Published(
        model="VidTok, causal",
        data="MCL-JCV",
        psnr=29.64,
        ssim=0.852,
        lpips=0.114,
        fvd=194.2,
        note=f"{VIDTOK}, 17 frames",
    ),
    Published(
        model="VidTok, noncausal",
        data="MCL-JCV",
        psnr=30.60,
        ssim=0.876,
        lpips=0.098,
        fvd=157.9,
        note=f"{VIDTOK}, 16 frames",
    ),
    Published(model="VidTok, noncausal", data="WebVid", psnr=30.25, lpips=0.0645, note=VIDEOVAE),
    Published(model="VideoVAE+, with text", data="WebVid", psnr=30.35, lpips=0.053, note=VIDEOVAE),
    Published(model="Open-Sora 1.2 VAE", data="WebVid", psnr=29.38, lpips=0.124, note=VIDEOVAE),
    Published(model="Open-Sora 1.2 VAE", data="a set of large motion", psnr=27.76, note=f"{VIDEOVAE}; its best there"),
)
