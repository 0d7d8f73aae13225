"""A model in fewer steps gives what it gave in more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vpipe.engine.openvino import open_core, ops, ov
from vpipe.engine.simplify import simplify

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    return ops.constant(RNG.normal(0, 1, shape).astype(np.float32))


def model_of(build: Callable[[Any], Any], *shape: int) -> ov.Model:
    x = ops.parameter(list(shape), np.float32, name="x")
    return ov.Model([ops.result(ops.relu(build(x)))], [x], "m")


def transposed(x: Any, kernel: int = 2, stride: int = 2, pad: int = 0) -> Any:
    ends = [[pad, pad]] * 2
    return ops.convolution_backprop_data(x, weights(6, 3, kernel, kernel), [stride] * 2, None, *ends, [1, 1])


def enlarged(x: Any, leaving: int = 3, mode: str = "linear_onnx") -> Any:
    large = ops.interpolate(
        x,
        ops.constant(np.array([16, 20])),
        mode,
        "sizes",
        coordinate_transformation_mode="half_pixel",
        axes=ops.constant(np.array([2, 3])),
    )
    return ops.convolution(large, weights(leaving, 6, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])


def enlarged_between_transpositions(x: Any) -> Any:
    last = ops.transpose(x, ops.constant(np.array([0, 2, 3, 1])))
    large = ops.interpolate(
        last,
        ops.constant(np.array([16, 20])),
        "linear_onnx",
        "sizes",
        coordinate_transformation_mode="half_pixel",
        axes=ops.constant(np.array([1, 2])),
    )
    first = ops.transpose(large, ops.constant(np.array([0, 3, 1, 2])))
    return ops.convolution(first, weights(3, 6, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])


def mean_of_sum(x: Any) -> Any:
    total = ops.add(ops.sigmoid(x), ops.tanh(x))
    return ops.reduce_mean(total, ops.constant(np.array([2, 3])), True)


def kinds(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def outcome(model: ov.Model) -> Any:
    given = np.random.default_rng(1).normal(0, 1, tuple(model.inputs[0].shape)).astype(np.float32)
    return open_core().compile_model(model, "CPU")(given)[0]


@pytest.mark.parametrize(
    ("build", "gone"),
    [
        (transposed, "ConvolutionBackpropData"),
        (lambda x: transposed(x, 3, 3), "ConvolutionBackpropData"),
        (enlarged_between_transpositions, "Transpose"),
    ],
)
def test_model_in_fewer_steps_gives_the_same(build: Callable[[Any], Any], gone: str) -> None:
    model = model_of(build, 1, 6, 8, 10)
    before = outcome(model)
    assert gone in kinds(model)
    simplify(model)
    assert gone not in kinds(model)
    assert np.allclose(outcome(model), before, atol=1e-5)


def test_convolution_goes_before_the_enlargement() -> None:
    model = model_of(enlarged, 1, 6, 8, 10)
    before = outcome(model)
    simplify(model)
    assert kinds(model).index("Convolution") < kinds(model).index("Interpolate")
    assert np.allclose(outcome(model), before, atol=1e-5)


def test_sum_is_not_made_for_its_mean_alone() -> None:
    model = model_of(mean_of_sum, 1, 6, 8, 10)
    before = outcome(model)
    simplify(model)
    assert kinds(model).count("ReduceMean") == 2
    assert np.allclose(outcome(model), before, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: transposed(x, 3, 2),
        lambda x: transposed(x, 2, 2, pad=1),
        lambda x: enlarged(x, leaving=12),
        lambda x: enlarged(x, mode="nearest"),
    ],
)
def test_what_would_differ_or_cost_more_is_left_alone(build: Callable[[Any], Any]) -> None:
    model = model_of(build, 1, 6, 8, 10)
    before = kinds(model)
    simplify(model)
    assert kinds(model) == before


def test_output_that_is_known_by_name_stays() -> None:
    x = ops.parameter([1, 6, 8, 10], np.float32, name="x")
    model = ov.Model([ops.result(transposed(x))], [x], "m")
    simplify(model)
    assert "ConvolutionBackpropData" in kinds(model)
