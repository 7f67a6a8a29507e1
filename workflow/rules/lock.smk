# Snakemake's lock outlives a Snakemake that was killed, and would have to be removed by hand (--unlock). The kernel's lock
# on this file ends with its process: where nobody holds it, nobody works here, and what Snakemake's lock says is old.

import fcntl
import shutil

ALIVE = Path(".snakemake", "alive")


def hold_folder():
    """Lock the working folder until this process ends; None where another one has it, or where there are no locks."""
    ALIVE.parent.mkdir(exist_ok=True)
    stream = ALIVE.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


if workflow.is_main_process:
    with hold_folder() or open(os.devnull) as held:
        if held.name == str(ALIVE):
            shutil.rmtree(ALIVE.with_name("locks"), ignore_errors=True)


onstart:
    workflow.globals["alive"] = hold_folder()
