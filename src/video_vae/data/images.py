"""Read still images (Pillow)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from video_vae.data.content import MediaError, check_exists, check_size, message
from video_vae.data.pixels import Frames


def read_image(path: str | Path) -> Frames:
    """Decode an image as uint8 (1,H,W,3): orientation applied, transparency over white.

    Raises:
        MediaError: if the file is missing or is not a whole image.
    """
    check_exists(path)
    try:
        with Image.open(path) as opened:
            check_size(*opened.size)
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits a pixel
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(image.convert("RGB"))[None].copy()
    except UnidentifiedImageError:
        raise MediaError("unreadable", "not an image") from None
    except Image.DecompressionBombError as error:
        raise MediaError("unreadable", str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise MediaError("truncated" if "truncated" in str(error) else "unreadable", message(error)) from None
