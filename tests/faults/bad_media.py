"""Make files that look like clips and are not, or are odd ones, from seeds: what cameras and attackers leave."""

from __future__ import annotations

import os
import random
import shutil
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from clips import UPRIGHT, turn, video_stream, write_video

SIZE = (96, 128)
FRAMES = 30


@dataclass(frozen=True)
class Odd:
    """A file, and what must become of it: `used`, `rejected`, or either of them."""

    kind: str
    path: Path
    expected: str
    frames: int = FRAMES
    size: tuple[int, int] = SIZE


class Corpus:
    """Files by kind, made in a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.files: list[Odd] = []
        self.base = [
            write_video(folder / "base.mp4", FRAMES, options={"g": "12"}),
            write_video(folder / "front.mp4", FRAMES, container={"movflags": "faststart"}, seed=1),
            write_video(folder / "base.mkv", FRAMES, options={"g": "12"}, seed=2),
            write_video(folder / "base.avi", FRAMES, codec="mpeg4", seed=3),
            write_video(folder / "base.ts", FRAMES, codec="mpeg2video", seed=4),
            write_video(folder / "base.mov", FRAMES, codec="mjpeg", pixels="yuvj420p", seed=5),
            _image(folder / "base.png"),
            _image(folder / "base.jpg"),
        ]

    def add(self, kind: str, name: str, expected: str, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> Path:
        """Name a file of a kind, to be written by the caller."""
        path = self.folder / f"{len(self.files):03d}-{name}"
        self.files.append(Odd(kind, path, expected, frames, size))
        return path

    def keep(self, kind: str, name: str, content: bytes, expected: str = "either") -> None:
        """Write a file of a kind."""
        self.add(kind, name, expected).write_bytes(content)


def make_corpus(folder: Path, seed: int, share: float = 1.0) -> list[Odd]:
    """Make a corpus; `share` below 1 makes fewer of the files that chance decides."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(folder, seed)
    repeats = max(1, round(4 * share))
    for make in (_truncated, _flipped):
        for _ in range(repeats):
            make(corpus)
    for make in (_garbage, _misnamed, _empty, _short, _shaped, _coloured, _turned, _paced, _huge, _crowded, _lists):
        make(corpus)
    return corpus.files


def _image(path: Path) -> Path:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    Image.fromarray(np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)).save(path)
    return path


def _truncated(corpus: Corpus) -> None:
    for base in corpus.base:
        content = base.read_bytes()
        corpus.keep("truncated at a random point", base.name, content[: corpus.random.randrange(1, len(content))])


def _flipped(corpus: Corpus) -> None:
    for base in corpus.base:
        content = bytearray(base.read_bytes())
        for _ in range(corpus.random.choice((1, 10, 200))):
            content[corpus.random.randrange(len(content))] ^= 1 << corpus.random.randrange(8)
        corpus.keep("flipped bits", base.name, bytes(content))


def _garbage(corpus: Corpus) -> None:
    for base in corpus.base:
        head = base.read_bytes()[:64]
        corpus.keep("noise behind a true head", base.name, head + corpus.random.randbytes(20_000), "rejected")
    for name in ("noise.mp4", "noise.mkv", "noise.png"):
        corpus.keep("noise", name, corpus.random.randbytes(20_000), "rejected")


def _misnamed(corpus: Corpus) -> None:
    kind = "wrong extension"
    for base, name in ((0, "is-mp4.mkv"), (2, "is-mkv.mp4"), (3, "is-avi.mov"), (0, "is-mp4.ts")):
        shutil.copy(corpus.base[base], corpus.add(kind, name, "used"))
    for base, name in ((6, "is-png.jpg"), (7, "is-jpg.png")):
        shutil.copy(corpus.base[base], corpus.add(kind, name, "used", frames=1))
    shutil.copy(corpus.base[0], corpus.add(kind, "is-mp4.png", "rejected"))
    for name, content in (("is-text.mp4", b"not a video\n" * 99), ("is-zip.mkv", b"PK\x03\x04" + bytes(999))):
        corpus.keep(kind, name, content, "rejected")


def _empty(corpus: Corpus) -> None:
    kind = "zero frames"
    for name in ("none.mp4", "none.mkv"):
        with av.open(str(corpus.add(kind, name, "rejected")), "w") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            output.start_encoding()
    corpus.keep(kind, "nothing.mp4", b"", "rejected")
    corpus.keep(kind, "nothing.png", b"", "rejected")


def _short(corpus: Corpus) -> None:
    for name in ("one.mp4", "one.mkv", "one.avi"):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        write_video(corpus.add("one frame", name, "used", frames=1), 1, codec=codec)


def _shaped(corpus: Corpus) -> None:
    for size in ((97, 131), (33, 17), (1, 1), (2, 600), (255, 3)):
        write_video(corpus.add("odd sizes", "odd.mkv", "used", 8, size), 8, size=size, codec="ffv1", pixels="bgr0")
    write_video(corpus.add("odd sizes", "odd.mp4", "used", 8, (97, 131)), 8, size=(97, 131), pixels="yuv444p")


def _coloured(corpus: Corpus) -> None:
    for pixels in ("yuv420p10le", "yuv444p16le", "gray16le"):
        write_video(corpus.add("10 and 16 bits", "deep.mkv", "used", 8), 8, codec="ffv1", pixels=pixels)
    for codec, pixels, name in (
        ("ffv1", "yuva420p", "alpha.mkv"),
        ("qtrle", "argb", "alpha.mov"),
        ("png", "rgba", "alpha.mov"),
    ):
        write_video(corpus.add("alpha", name, "used", 8), 8, codec=codec, pixels=pixels)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
    Image.fromarray(noise).save(corpus.add("alpha", "alpha.png", "used", 1))
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(corpus.add("10 and 16 bits", "deep.png", "used", 1))


def _turned(corpus: Corpus) -> None:
    for matrix in ((0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), UPRIGHT, (7, 5, 3, 1)):
        upright = matrix[0] != 0
        expected = "used" if matrix != (7, 5, 3, 1) else "either"
        path = corpus.add("rotated", "turned.mp4", expected, size=SIZE if upright else SIZE[::-1])
        turn(write_video(path, FRAMES), matrix)


def _paced(corpus: Corpus) -> None:
    for name in ("paced.mkv", "paced.mp4", "gap.mkv", "gap.mp4"):
        kind, expected = ("variable rate", "used") if name[0] == "p" else ("an hour between two frames", "rejected")
        with av.open(str(corpus.add(kind, name, expected)), "w") as output:
            stream = video_stream(output, "libx264", 25, SIZE, options={"bf": "0"})
            stream.codec_context.time_base = Fraction(1, 1000)
            time = 0
            for index in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), index * 8, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                time += corpus.random.randrange(1, 200) if name[0] == "p" else 3_600_000 if index == 9 else 40
                output.mux(stream.encode(frame))
            output.mux(stream.encode())


def _huge(corpus: Corpus) -> None:
    kind = "huge dimensions in a tiny file"
    for side in (60_000, 2**31 - 1):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))
        body = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
        corpus.keep(kind, "huge.png", b"\x89PNG\r\n\x1a\n" + body, "rejected")
    content = corpus.base[7].read_bytes()
    place = content.index(b"\xff\xc0") + 5
    corpus.keep(kind, "huge.jpg", content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :], "rejected")
    corpus.keep(
        kind,
        "huge.gif",
        b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;",
        "rejected",
    )
    corpus.keep(kind, "huge.y4m", b"YUV4MPEG2 W65535 H65535 F25:1 C420\nFRAME\n" + bytes(999), "rejected")
    Image.new("1", (12_000, 12_000)).save(corpus.add(kind, "black.png", "rejected"))
    for name in ("huge.mov", "huge.avi"):
        spoilt = bytearray(corpus.base[5 if name.endswith("mov") else 3].read_bytes())
        for side in (SIZE[1], SIZE[0]) if name.endswith("avi") else ():
            place = spoilt.find(side.to_bytes(4, "little"))
            if place >= 0:
                spoilt[place : place + 4] = (30_000).to_bytes(4, "little")
        place = spoilt.find(b"\xff\xc0")
        if place >= 0:
            spoilt[place + 5 : place + 9] = b"\xff\xff\xff\xff"
        corpus.keep(kind, name, bytes(spoilt), "either")


def _crowded(corpus: Corpus) -> None:
    _many(corpus.add("many streams", "videos.mkv", "used", 5, (64, 64)), videos=60)
    _many(corpus.add("many streams", "sounds.mkv", "used", 5, (64, 64)), videos=1, sounds=120)
    for name in ("sound.mp4", "sound.mkv", "sound.mov"):
        _many(corpus.add("sound only", name, "rejected"), videos=0, sounds=1)


def _many(path: Path, videos: int, sounds: int = 0) -> None:
    with av.open(str(path), "w") as output:
        pictures = [video_stream(output, "mpeg4", 25, (64, 64)) for _ in range(videos)]
        waves = [output.add_stream("aac", rate=44_100) for _ in range(sounds)]
        for index in range(5):
            for stream in pictures:
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index * 40, np.uint8), format="rgb24")
                output.mux(stream.encode(frame))
        for wave in waves:
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.rate = 44_100
            output.mux(wave.encode(sound))
        for packets in [stream.encode() for stream in pictures] + [wave.encode() for wave in waves]:
            output.mux(packets)


def _lists(corpus: Corpus) -> None:
    """Add texts that make FFmpeg open other files or addresses, and things that are no files."""
    kind = "texts that name other files"
    base = corpus.base[4].resolve()
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    for name in (str(base), "http://127.0.0.1:9/a.ts", "concat:/etc/passwd|/etc/hosts"):
        corpus.keep(kind, "list.mp4", playlist.format(name).encode(), "rejected")
    corpus.keep(kind, "concat.mkv", f"ffconcat version 1.0\nfile '{base.name}'\n".encode(), "rejected")
    corpus.keep(
        kind,
        "session.mp4",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "rejected",
    )
    kind = "no regular file"
    corpus.add(kind, "folder.mp4", "rejected").mkdir()
    corpus.add(kind, "gone.mp4", "rejected")
    loop = corpus.add(kind, "loop.mp4", "rejected")
    loop.symlink_to(loop)
    os.mkfifo(corpus.add(kind, "pipe.mp4", "rejected"))
