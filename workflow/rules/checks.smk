# Snakemake takes results that exist for good, whatever became of what they were made from: that is looked at here.

from snakemake.logging import logger

from video_vae.doctor.inputs import check_inputs
from video_vae.report.lost import lost_outputs

# Jobs are parts of a run that was looked at when it started; the words name what reads no clips and no weights.
started = workflow.is_main_process and "VIDEO_VAE_OWNER" not in os.environ

if started and not {"prepare_offline", "--unlock", "--lint"}.intersection(sys.argv):
    try:
        check_inputs(RUNS, Path("results"))
        workflow.source_path("../notebooks/explore.ipynb")
    except UserError as error:
        raise WorkflowError(str(error)) from None
    except FileNotFoundError as error:
        raise WorkflowError(f"{error.filename} does not exist; get it from the repository again") from None
    for lost in lost_outputs(RUNS, Path("results")):
        logger.warning(str(lost))
