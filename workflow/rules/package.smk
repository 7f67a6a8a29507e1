# Where the files of this workflow lie and how its jobs call its package. The workflow that imports it as a module may lie
# anywhere, bring another copy of the package, or name this one by github(...): then the files are copied out of git.

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile

COPIED = ["src", "workflow", "envs", "config", ".git_archival.txt"]


def checkout(here):
    """Return the folder of this workflow's files, given the place of its rules."""
    if isinstance(here, LocalSourceFile):
        return Path(here.get_path_or_uri(secret_free=True)).parents[1]
    if isinstance(here, HostingProviderFile):
        return copied(here.hosted_repo.repo_clone, here.ref)
    if isinstance(here, LocalGitFile):
        return copied(here.repo_path, here.ref)
    raise WorkflowError(
        f"video-vae: {here} tells nothing of the files beside it; name the Snakefile by a path, by github(...), by "
        "gitlab(...) or by gitfile(...)"
    )


def git(repository, *words):
    """Ask git about a repository and return what it writes, as bytes."""
    done = subprocess.run(["git", "-C", repository, *words], capture_output=True)
    if done.returncode:
        raise WorkflowError(f"video-vae: git -C {repository} {words[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def copied(repository, reference):
    """Copy the files of a commit out of a git repository, once, to where all jobs see them."""
    commit = git(repository, "rev-parse", "--verify", f"{reference}^{{commit}}").decode().strip()
    folder = Path(".snakemake", "video-vae", commit)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
            files = git(repository, "archive", f"--prefix={commit}/", commit, *COPIED)
            subprocess.run(["tar", "-x", "-C", aside], input=files, check=True)
            try:
                Path(aside, commit).rename(folder)
            except OSError:  # another process was first
                if not folder.is_dir():
                    raise
    return folder


ROOT = Path(os.path.relpath(checkout(workflow.current_basedir)))
sys.path.insert(0, str(Path(ROOT, "src").absolute()))

NOTEBOOK = ROOT / "workflow" / "notebooks" / "explore.ipynb"

import video_vae

if not Path(video_vae.__file__).resolve().is_relative_to(ROOT.resolve()):
    raise WorkflowError(
        f"video-vae: {Path(video_vae.__file__).parent} was imported before this workflow's own package, {ROOT}/src/video_vae; "
        "take one version of the workflow, and import no other copy in the Snakefile"
    )


def interpreter():
    """Name Snakemake's own Python; in a conda environment or a container, the one that is found there."""
    deployed = getattr(workflow.deployment_settings, "deployment_method", ())
    return (
        "python" if {"CONDA", "APPTAINER"} & {method.name for method in deployed} else os.path.relpath(sys.executable)
    )


def python(arguments, output="2>&1 | (trap '' HUP INT TERM PIPE; exec tee {log})"):
    """Write the command of a job; what Python says is shown and kept in the log.

    All that it needs stands in it: nothing here changes how the commands of an importing workflow run, nor the other way
    round. Snakemake takes PYTHONPATH away from jobs in conda environments. A job ends when the Snakemake that started it
    is gone (VIDEO_VAE_OWNER); tee outlives the signals that a training answers by saving itself, and a reader that goes.
    """
    source = word(ROOT / "src")
    variables = f"PYTHONPATH={source} VIDEO_VAE_OWNER=$PPID"
    return f"set -o pipefail; {variables} {word(interpreter())} {arguments} {output}"


def word(text):
    """Quote a text for the shell and for Snakemake, which fills in what stands in braces."""
    return shlex.quote(str(text)).replace("{", "{{").replace("}", "}}")
