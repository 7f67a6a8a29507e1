"""Make `python -m video_vae COMMAND` the same as `video-vae COMMAND`."""

from __future__ import annotations

from video_vae.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
