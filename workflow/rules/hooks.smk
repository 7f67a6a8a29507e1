# What is done at the start and at the end of a run.

import time
from contextlib import suppress

from snakemake.logging import logger

from video_vae.distributed.owners import record_owner
from video_vae.run_project import notify

PAGE = "reports/report.html"
BEGAN = time.time()


# So that `run` of a project can tell whether the process lives that holds the lock: it offers to remove a dead one's.
onstart:
    if started:
        with suppress(OSError):
            locks = map(os.path.relpath, getattr(workflow.persistence, "_lockfile", {}).values())
            record_owner(locks, Path(".snakemake/video-vae/owners"))


def told(outcome):
    """Send the message that the user asked for by VIDEO_VAE_NOTIFY."""
    problem = notify(outcome, CONFIG_FILES[0] if CONFIG_FILES else "", PAGE if os.path.isfile(PAGE) else "")
    if problem:
        logger.warning(problem)


onsuccess:
    if started:
        told("finished")
        # make says it itself, also where nothing was to be done
        if "MAKELEVEL" not in os.environ and os.path.isfile(PAGE) and os.path.getmtime(PAGE) >= BEGAN:
            logger.info(f"The report: {os.path.abspath(PAGE)}")


onerror:
    if started:
        told("failed")
