"""MONAI's sliding window with Voxquarry's aggregator: it holds no volume of weights, and sums only
of unfinished voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import monai.inferers
import torch
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type, ensure_tuple_rep, fall_back_tuple, optional_import

from .. import Aggregator, GridSampler, UsageError

tqdm, _ = optional_import("tqdm", name="tqdm")

Outputs: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]
# Inputs that are blended here.
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sliding_window_inference(
    inputs: torch.Tensor,
    roi_size: Sequence[int] | int,
    sw_batch_size: int,
    predictor: Callable[..., Any],
    overlap: Sequence[float] | float = 0.25,
    mode: str = "constant",
    sigma_scale: Sequence[float] | float = 0.125,
    padding_mode: str = "constant",
    cval: float = 0.0,
    sw_device: torch.device | str | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    roi_weight_map: torch.Tensor | None = None,
    process_fn: Callable[..., Any] | None = None,
    buffer_steps: int | None = None,
    buffer_dim: int = -1,
    with_coord: bool = False,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """``monai.inferers.sliding_window_inference`` with the same arguments, windows, batches and
    result.

    Windows are blended on the CPU, and the whole result goes to ``device`` at the end.
    ``buffer_steps``, which saves MONAI memory, has no effect. MONAI's own function handles weights
    that are not a product of one-dimensional ones (``roi_weight_map``, ``process_fn``), a
    ``condition``, and inputs of integers or with other than 1 to 3 spatial axes. An output whose
    resolution differs from its window's is weighted by the Gaussian of its own extents, where MONAI
    enlarges the Gaussian of the window. The ratio on each axis is a whole number, or one over a
    whole number.

    Args:
        inputs: ``(B, C, *spatial)``; a ``MetaTensor`` gives its metadata to the outputs.
        roi_size, sw_batch_size, predictor, overlap, mode, sigma_scale, padding_mode, cval,
            sw_device, device, progress, roi_weight_map, process_fn, buffer_steps, buffer_dim,
            with_coord, args, kwargs: As MONAI describes them.

    Returns:
        What the predictor answers, for the whole inputs: a tensor, a tuple or a dict of tensors
            ``(B, K, *spatial)`` in the inputs' dtype;
        for a ``MetaTensor`` in float32, as in MONAI.

    Raises:
        ValueError: Sizes and overlaps that MONAI refuses too.
        UsageError: Answers of another shape than the first; a ratio of resolutions that is not
            supported.
    """
    spatial = inputs.shape[2:]
    own_weights = roi_weight_map is not None or process_fn is not None
    if (
        own_weights
        or "condition" in kwargs
        or inputs.dtype not in _FLOATING
        or not 1 <= len(spatial) <= 3
    ):
        theirs = monai.inferers.sliding_window_inference
        settings = (
            sigma_scale,
            padding_mode,
            cval,
            sw_device,
            device,
            progress,
            roi_weight_map,
            process_fn,
            buffer_steps,
            buffer_dim,
        )
        return theirs(
            inputs,
            roi_size,
            sw_batch_size,
            predictor,
            overlap,
            mode,
            *settings,
            with_coord,
            *args,
            **kwargs,
        )
    if isinstance(roi_size, Sequence) and len(roi_size) != len(spatial):
        raise ValueError(
            f"roi_size {tuple(roi_size)} for inputs of shape {tuple(inputs.shape)}:"
            f" expected {len(spatial)} sizes"
        )
    overlaps = ensure_tuple_rep(overlap, len(spatial))
    if not all(0 <= part < 1 for part in overlaps):
        raise ValueError(
            f"overlap {overlaps}: expected fractions of the window, at least 0 and below 1"
        )

    plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
    roi = fall_back_tuple(roi_size, spatial)
    missing = [max(r - s, 0) for r, s in zip(roi, spatial, strict=True)]
    before = [room // 2 for room in missing]
    if any(missing):
        sides = [side for room in reversed(missing) for side in (room // 2, room - room // 2)]
        plain = torch.nn.functional.pad(
            plain, sides, mode=str(getattr(padding_mode, "value", padding_mode)), value=cval
        )
    slide = _Slide(plain.shape, roi, overlaps, _window(mode, sigma_scale, len(spatial)))
    target = sw_device or inputs.device
    total = len(inputs) * len(slide.starts)
    batches: Any = range(0, total, sw_batch_size)
    for first in tqdm(batches) if progress else batches:
        places = [slide.place(number) for number in range(first, min(first + sw_batch_size, total))]
        windows = (
            torch.cat([plain[place] for place in places]) if len(places) > 1 else plain[places[0]]
        )
        given = ([list(place) for place in places], *args) if with_coord else args
        slide.add(predictor(windows.to(target), *given, **kwargs), first)

    # As in MONAI, the outputs for a `MetaTensor` are float32 whatever it is.
    like = (
        MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
        if isinstance(inputs, MetaTensor)
        else plain
    )
    final_device = device or inputs.device

    def final(result: torch.Tensor) -> torch.Tensor:
        zoom = [n / p for n, p in zip(result.shape[2:], plain.shape[2:], strict=True)]
        ends = zip(before, spatial, zoom, strict=True)
        box = [slice(round(b * z), round((b + s) * z)) for b, s, z in ends]
        return convert_to_dst_type(
            result[(slice(None), slice(None), *box)], like, device=final_device
        )[0]

    return slide.packed(final)


class _Slide:
    """The windows over a batch of images, and the answers for them.

    The aggregator's images have three axes; images with fewer get leading axes of one voxel.
    """

    def __init__(
        self, shape: Sequence[int], roi: Sequence[int], overlaps: Sequence[float], window: Any
    ) -> None:
        self.batch, self.spatial, self.roi, self.window = (
            shape[0],
            tuple(shape[2:]),
            tuple(roi),
            window,
        )
        self.leading = 3 - len(self.spatial)
        strides = [max(int(r * (1 - part)), 1) for r, part in zip(roi, overlaps, strict=True)]
        kept = [r - stride for r, stride in zip(roi, strides, strict=True)]
        self.grid = GridSampler(self._three(self.roi), overlap=[0] * self.leading + kept)
        self.starts = self.grid.locations(self._three(self.spatial))
        self.aggregators: list[Aggregator] = []
        # For each output the finished images: those of a batch come one after another.
        self.results: list[list[torch.Tensor]] = []
        self.keys: list[Any] | None = None
        self.is_tensor = False

    def _three(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return (1,) * self.leading + tuple(sizes)

    def place(self, number: int) -> tuple[slice, ...]:
        """The slices of the inputs for window ``number`` of all windows."""
        image, at = divmod(number, len(self.starts))
        start = self.starts[at, self.leading :].tolist()
        return (
            slice(image, image + 1),
            slice(None),
            *(slice(a, a + r) for a, r in zip(start, self.roi, strict=True)),
        )

    def add(self, outputs: Any, first: int) -> None:
        """Blends the answers for the windows from number ``first`` on."""
        self.is_tensor = isinstance(outputs, torch.Tensor)
        self.keys = sorted(outputs) if isinstance(outputs, Mapping) else None
        answers = (
            [outputs]
            if self.is_tensor
            else [outputs[key] for key in self.keys]
            if self.keys is not None
            else list(outputs)
        )
        self.results = self.results or [[] for _ in answers]
        done = 0
        while done < len(answers[0]):
            at = (first + done) % len(self.starts)
            count = min(len(self.starts) - at, len(answers[0]) - done)
            if at == 0:
                self.aggregators = [self._aggregator(answer) for answer in answers]
            for aggregator, answer in zip(self.aggregators, answers, strict=True):
                part = answer[done : done + count].detach().cpu()
                part = part.reshape(*part.shape[:2], *self._three(part.shape[2:]))
                aggregator.add(part, self.starts[at : at + count])
            done += count
            if at + count == len(self.starts):
                for results, aggregator in zip(self.results, self.aggregators, strict=True):
                    image = torch.from_numpy(aggregator.finish())
                    results.append(image.reshape(len(image), *image.shape[1 + self.leading :]))

    def _aggregator(self, answer: torch.Tensor) -> Aggregator:
        if answer.ndim != len(self.roi) + 2:
            raise UsageError(
                f"the predictor answered {tuple(answer.shape)} for windows {self.roi}:"
                " expected (n, k, *spatial)"
            )
        scale = [1.0] * self.leading + [
            n / r for n, r in zip(answer.shape[2:], self.roi, strict=True)
        ]
        dtype = "float64" if answer.dtype == torch.float64 else "float32"
        size = self._three(self.spatial)
        return Aggregator(
            self.grid, size, channels=answer.shape[1], dtype=dtype, window=self.window, scale=scale
        )

    def packed(self, final: Callable[[torch.Tensor], torch.Tensor]) -> Outputs:
        """The results in the form of the predictor's answers."""
        outputs = [
            final(images[0][None] if len(images) == 1 else torch.stack(images))
            for images in self.results
        ]
        if self.keys is not None:
            return dict(zip(self.keys, outputs, strict=True))
        return outputs[0] if self.is_tensor or len(outputs) == 1 else tuple(outputs)


def _window(mode: Any, sigma_scale: Sequence[float] | float, axes: int) -> Any:
    name = str(getattr(mode, "value", mode)).lower()
    if name == "constant":
        return "average"
    if name != "gaussian":
        raise ValueError(f"mode {mode!r}: expected 'constant' or 'gaussian'")
    # A leading axis of one voxel weighs 1 whatever its sigma.
    return (
        "gaussian",
        [1.0] * (3 - axes) + [float(scale) for scale in ensure_tuple_rep(sigma_scale, axes)],
    )
