"""An evaluation as Markdown: the verdict, and each figure between its floor and its ceilings."""

from dcgan.quality.report import QualityReport
from tasks.evaluation import Evaluation


def evaluation_page(evaluation: Evaluation) -> str:
    """Return the page: the verdict in words, a table for each classifier, and where the pictures are."""
    return f"""{_heading(evaluation)}

### Evaluator

{_table(evaluation.columns("quality"))}

### Judge, which has no part in the verdict

{_table(evaluation.columns("judge"))}
{_pointer(evaluation)}"""


def _pointer(evaluation: Evaluation) -> str:
    from tasks.tracking.quality import PAGE_FILE

    return f"\nWith pictures and curves: `{PAGE_FILE}` of the version's MLflow run.\n" if evaluation.counts else ""


def _heading(evaluation: Evaluation) -> str:
    version, verdict = evaluation.candidate.version, evaluation.verdict
    if verdict is None:
        return f"## Version {version}, the champion"
    return f"## Version {version} {'passed' if verdict.passed else 'did not pass'}\n\n{verdict.reason}"


def _table(columns: dict[str, QualityReport]) -> str:
    head = [f"| figure | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    figures = {title: report.estimates() for title, report in columns.items()}
    names = next(iter(figures.values()))
    rows = [f"| {name.replace('_', ' ')} | {' | '.join(str(f[name]) for f in figures.values())} |" for name in names]
    return "\n".join(head + rows)
