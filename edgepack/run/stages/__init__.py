"""What the stages of the pipeline do: one file each, in the order of ``edgepack.run.pipeline.STAGES``."""
