# What is done at the start and at the end of a run.

from contextlib import suppress

from video_vae.distributed.owners import record_owner


# So that `run` of a project can tell whether the process lives that holds the lock: it offers to remove a dead one's.
onstart:
    if started:
        with suppress(OSError):
            locks = map(os.path.relpath, getattr(workflow.persistence, "_lockfile", {}).values())
            record_owner(locks, Path(".snakemake/video-vae/owners"))
