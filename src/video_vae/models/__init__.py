"""The nets: pure functions of tensors, without any I/O of their own."""

from video_vae.models.posterior import DiagonalGaussian
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.video import VideoAutoencoderKL

__all__ = ["DiagonalGaussian", "TemporalAutoencoderKL", "VideoAutoencoderKL"]
