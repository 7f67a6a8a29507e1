"""Clips: find and list them, decode them, and give the model what it sees. `table.Clip` is a clip everywhere.

Listing, in the order of the work:
    sources         what a config names: folders, files, lists, tar shards (`webdataset`), `packages` (`fetch`)
    listing         a list's `rows`, its `columns` (`column_names`), the files (`places`) and parts (`spans`) it names
    candidates      what was found, before anybody looks into the files
    probing         looks into files, in the confined processes of `readers`; `probed` remembers what they were
    build_manifest  clips and rejections (`manifest`: the command); `span_frames` of parts, `split`, `fit`, `benchmark`
    table           the tables' rows; `open_table` opens any list as one

Decoding:
    video           start here: probe a file, read a clip or pieces of it, by PyAV, `decord_reader` or Pillow
    frames          decode by time stamps, as the `index` of a file's `packets` (`bitstream`, `times`, `rates`) allows
    container       open a file and decode packets
    pixels          a decoded frame as a player shows it (`tone`: high dynamic range)
    images          pictures and animations; `frame_folders`: clips of one picture per frame; `suffixes`: their names
    content         files that cannot be used, or are gone (`MediaError`); `identity`: files by their hash

What the model sees:
    sampling        which frames; `windows`: which parts of long clips are scored
    view            which part of a frame, and how large; `transform`: resize and crop, from pixels to tensors and back
    pieces          a training window to read, here or by `readers` (`reader_process`: the worker); `prefetch`: threads

Kept on the disk:
    storage         frames without loss, and previews; `codecs`: clips coded by x264 and x265, to compare with
    prepared        clips at the training's size; `preparing` writes them (`prepare_clips`: the command)
    pans            training clips made of photographs, by `moving_views` over them
    sharding        clips over jobs; `kept`: what a shard held before it is made again
"""
