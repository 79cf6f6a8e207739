"""The KFP step ``report``: one self-contained page about a run."""

from kfp import dsl

from assay.components.authoring import component


@component
def report(
    dataset: dsl.Input[dsl.Dataset],
    ingest_quarantine: dsl.Input[dsl.Artifact],
    kept: dsl.Input[dsl.Dataset],
    sanitize_quarantine: dsl.Input[dsl.Artifact],
    filtered: dsl.Input[dsl.Dataset],
    filter_quarantine: dsl.Input[dsl.Artifact],
    scores: dsl.Input[dsl.Artifact],
    evidence: dsl.Input[dsl.Artifact],
    outcomes: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    run: str,
    page: dsl.Output[dsl.HTML],
):
    """Write one page about a run: the verdict, every rule, what was removed and why, and the chain of custody.

    Args:
        dataset: Records that ingest accepted.
        ingest_quarantine: Records and raw rows that ingest did not accept.
        kept: Records that sanitize kept.
        sanitize_quarantine: Records that sanitize took out, with findings.
        filtered: Records that the poison filter kept: those the model learned from.
        filter_quarantine: Records that the poison filter took out, with findings.
        scores: Suspicion of every record by every detector, as Parquet.
        evidence: DSSE envelope of what was measured about the model.
        outcomes: What happened to each hold-out record under attack, as Parquet.
        decision: DSSE envelope of what the gate decided.
        run: Id of the pipeline run.
        page: The page, without any outside resource.
    """
    from assay.report.inputs import ReportInputs
    from assay.report.step import report

    inputs = ReportInputs.of(
        {
            "dataset": dataset.path,
            "ingest_quarantine": ingest_quarantine.path,
            "kept": kept.path,
            "sanitize_quarantine": sanitize_quarantine.path,
            "filtered": filtered.path,
            "filter_quarantine": filter_quarantine.path,
            "scores": scores.path,
            "evidence": evidence.path,
            "outcomes": outcomes.path,
            "decision": decision.path,
        }
    )
    report(inputs, page.path, run=run)
