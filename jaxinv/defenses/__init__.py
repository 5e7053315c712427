"""Defenses as values, and the release: everything that crosses the wire."""

from jaxinv.defenses.catalog import (
    ADVERSARIAL,
    BIDO,
    BOTTLENECK,
    CEM,
    CLOAK,
    CODEBOOK,
    DISCO,
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    MECHANISMS,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    SCA,
    SHAPED,
    TRAINED,
    VIB,
)
from jaxinv.defenses.features import Joined, Rows, check_features
from jaxinv.defenses.likelihood import before_noise, in_order, is_noisy, last_noise, residual
from jaxinv.defenses.mechanism import (
    NONE,
    SITES,
    Coding,
    Defense,
    Mechanism,
    Site,
    Step,
    Structure,
)
from jaxinv.defenses.mechanisms.clip import clipped_gaussian, median_norm
from jaxinv.defenses.release import (
    Query,
    Release,
    defended_inputs,
    query_function,
    release_function,
    release_levels,
)
from jaxinv.defenses.trained.nopeek import distance_correlation
from jaxinv.defenses.training import (
    Beginning,
    EdgeLayer,
    Helpers,
    Lesson,
    Plan,
    Shapes,
    Training,
    layer_at,
    plan,
)
