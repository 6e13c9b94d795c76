"""How convolutional the layers of a model are, computed from their weights."""

from keras_softconv.diagnostics.problem_children import (
    REMARKABLE,
    problem_children,
    scores,
)
from keras_softconv.diagnostics.report import (
    LayerReport,
    StructureReport,
    report_of_layers,
    structure_report,
)
from keras_softconv.diagnostics.search import (
    functional_class,
    layers_by_path,
    layers_within,
    soft_layers,
)
from keras_softconv.diagnostics.structure import (
    Members,
    energies,
    share,
    structure_numbers,
)
from keras_softconv.diagnostics.tables import readable

__all__ = [
    "REMARKABLE",
    "LayerReport",
    "Members",
    "StructureReport",
    "energies",
    "functional_class",
    "layers_by_path",
    "layers_within",
    "problem_children",
    "readable",
    "report_of_layers",
    "scores",
    "share",
    "soft_layers",
    "structure_numbers",
    "structure_report",
]
