"""Pipelines on this machine: kfp.local with its known faults handled. Only `run_pipeline` loads kfp.

kfp.local skips a condition without an Else in silence, calls a run a success whose branch it misread, reports a failed
task without its cause, leaves orphans when it is stopped, and prints forty lines a task. `run_pipeline` checks the
arguments and the shape first, owns the processes, keeps the log in a file, and afterwards compares which tasks ran with
which the pipeline's conditions call for.
"""
