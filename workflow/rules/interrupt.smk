# Ctrl-C stops the jobs, which save themselves, and ends with one line: Snakemake alone would wait for them, for days where
# they train, and tell them as failed. Jobs on a cluster are cancelled by the executor.

import threading

from video_vae.distributed.job_stopping import JobStopper


class Running:
    """This run of Snakemake, as the stopper sees it."""

    def running(self):
        """Return the logs of the jobs that run here, by the names of the jobs."""
        jobs = list(workflow.scheduler.running) if workflow.scheduler is not None else []
        named = [(job.rule.name, list(job.wildcards), list(map(str, job.log))) for job in jobs if not job.is_group()]
        return {f"{rule} ({', '.join(values)})" if values else rule: logs for rule, values, logs in named}

    def silence(self):
        """Keep what Snakemake says of jobs that did not end well to itself."""
        logger.addFilter(lambda record: False)

    def drain(self):
        """Start no more jobs; where a cluster has them, Snakemake's own interrupt cancels them."""
        if workflow.scheduler is None or not workflow.local_exec:
            return False
        # Not from a signal's handler: the scheduler may hold its lock there.
        threading.Thread(target=workflow.scheduler.exit_gracefully, daemon=True).start()
        return True


if started:
    JobStopper(Running()).install()
