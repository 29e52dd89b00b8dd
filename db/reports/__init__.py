"""Reports over what happened: latency, attainment, forecasts, accuracy, speculation and costs.

Theory of operation: what a report needs is sums (`sums`): numbered parts of numbered bins, such as
a histogram of a stage's latency. Sums are added in any order, so a report is the same whether they
come from rows, from hours or from days. Each report has a file with the SQL that turns rows into
sums and the code that reads numbers from sums. `cells` adds up a range: whole days and hours from
the rollups that `rollups` keeps, the rest from rows.
"""

from db.reports.accuracy import AccuracyRow, WidthRow, accuracy_report
from db.reports.attainment import AttainmentRow, Bin, attainment_report
from db.reports.calibration import CalibrationRow, ReliabilityBin, calibration_report
from db.reports.cells import Selection
from db.reports.costs import CostRow, RowSeconds, Tokens, cost_report
from db.reports.groups import GroupBy
from db.reports.latency import LatencyRow, latency_report
from db.reports.periods import Every
from db.reports.speculation import DraftRow, RowsRow, SpeculationRow, speculation_report
from db.reports.sums import Percentiles, Share

__all__ = [
    "AccuracyRow",
    "AttainmentRow",
    "Bin",
    "CalibrationRow",
    "CostRow",
    "DraftRow",
    "Every",
    "GroupBy",
    "LatencyRow",
    "Percentiles",
    "ReliabilityBin",
    "RowSeconds",
    "RowsRow",
    "Selection",
    "Share",
    "SpeculationRow",
    "Tokens",
    "WidthRow",
    "accuracy_report",
    "attainment_report",
    "calibration_report",
    "cost_report",
    "latency_report",
    "speculation_report",
]
