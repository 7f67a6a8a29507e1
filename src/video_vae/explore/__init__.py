"""Look into a finished run, from a notebook or a script: scores, a clip through the model, latents, interpolation."""

from video_vae.explore.figures import show_frames, show_latents, show_psnr
from video_vae.explore.study import Study, morph, open_study, save_clip

__all__ = ["Study", "morph", "open_study", "save_clip", "show_frames", "show_latents", "show_psnr"]
