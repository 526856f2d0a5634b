"""Which patches of a spectrogram are masked in masked-patch pretraining (SSAST, https://arxiv.org/abs/2110.09784).

There are two samplers. "official" draws as the official code does, which masks some patches far more often than
others, and the first one never. "uniform" masks all patches equally often. They differ only in clustered masks: both
draw single patches without replacement.

A clip is masked in its own patch grid, that is, in the columns that hold no padding, as if it were alone. Patches are
numbered row by row. Everything runs on the device of its inputs, for all clips at once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .modules_checks import expect_tensor

MASK_SAMPLERS = ("official", "uniform")
# Side of a cluster, in patches, drawn once per clip
SMALLEST_CLUSTER, LARGEST_CLUSTER = 3, 5


@dataclass(frozen=True)
class MaskSampler:
    """How many patches of each clip a model masks, and which ones.

    Args:
        num_mask_patches: Patches to mask per clip.
        mask_ratio: Share of a clip's patches to mask, used instead of `num_mask_patches` if given. At least one patch
            is masked, and at least one stays visible in clips of two patches or more.
        mask_clusters: Whether to mask groups of patches instead of single ones.
        mask_sampler: One of `MASK_SAMPLERS`.
    """

    num_mask_patches: int = 400
    mask_ratio: float | None = None
    mask_clusters: bool = True
    mask_sampler: str = "official"

    def __call__(self, column_mask: Tensor, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the patches to mask.

        Args:
            column_mask: True for columns of the patch grid that hold no padding, at least one per clip, shape (B, T').
            num_rows: Rows of the patch grid, F'.
            generator: Source of randomness; the global one if None.

        Returns:
            Patch numbers, shape (B, K), as `sample_mask` returns them.

        Raises:
            ValueError: `num_mask_patches` would mask a whole clip.
        """
        num_patches = num_rows * column_mask.sum(dim=1)
        num_masks: int | Tensor = self.num_mask_patches
        max_masks = None
        if self.mask_ratio is None:
            self._expect_visible_patches(num_patches, num_rows * column_mask.shape[1])
        else:
            num_masks = (column_mask.sum(dim=1) * (num_rows * self.mask_ratio)).round().long()
            num_masks = torch.minimum(num_masks, num_patches - 1).clamp(min=1)
            if torch.compiler.is_compiling():  # the shape of the result cannot depend on values
                max_masks = math.ceil(num_rows * column_mask.shape[1] * self.mask_ratio)
        return sample_mask(
            column_mask,
            num_rows,
            num_masks,
            max_masks=max_masks,
            clusters=self.mask_clusters,
            sampler=self.mask_sampler,
            generator=generator,
        )

    def _expect_visible_patches(self, num_patches: Tensor, largest: int) -> None:
        """Check that no clip is masked completely, given the patches of each clip (B,) and of the batch's grid."""
        if self.num_mask_patches < largest:
            enough = (num_patches > self.num_mask_patches).all()
            if torch.compiler.is_compiling():
                message = "num_mask_patches masks every patch of a clip; lower it, or set mask_ratio."
                torch._assert_async(enough, message)
                return
            if enough:
                return
            largest = int(num_patches.min())
        raise ValueError(
            f"num_mask_patches={self.num_mask_patches} masks every patch of a clip that has {largest}; lower it, or "
            "set mask_ratio to mask a share of each clip (the paper masks 400 of 512 patches, so 0.78)."
        )


def sample_mask(
    column_mask: Tensor,
    num_rows: int,
    num_masks: int | Tensor,
    *,
    clusters: bool,
    sampler: str = "official",
    max_masks: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw the patches to mask.

    Args:
        column_mask: True for columns of the patch grid that hold no padding, at least one per clip, shape (B, T').
        num_rows: Rows of the patch grid, F'.
        num_masks: Patches to mask: one number, or one per clip, shape (B,). A clip with fewer is masked completely.
        clusters: Whether to mask square groups of patches, 3 to 5 on a side, instead of single patches.
        sampler: "official" or "uniform".
        max_masks: Upper bound of the numbers per clip, which then is K. Compiled code needs it, because its shapes
            cannot depend on values; elsewhere it saves waiting for the device. By default, K is the largest number.
        generator: Source of randomness; the global one if None.

    Returns:
        Patch numbers, shape (B, K); K is the largest of `num_masks`, or `max_masks`. Rows of clips with fewer masked
        patches are padded with -1.
    """
    if sampler not in MASK_SAMPLERS:
        raise ValueError(f"sampler={sampler!r} is unknown; choose one of {MASK_SAMPLERS}.")
    batch_size, num_columns = column_mask.shape
    device = column_mask.device
    num_patches = num_rows * num_columns
    if isinstance(num_masks, Tensor):
        num_slots, num_masks = int(num_masks.max()) if max_masks is None else max_masks, num_masks.to(device)
    else:
        num_slots, num_masks = num_masks, torch.full((batch_size,), num_masks, device=device)
    num_slots = min(num_slots, num_patches)
    if num_slots < 1:
        raise ValueError(f"num_masks={num_masks.tolist()} masks nothing; it must be positive.")

    width = column_mask.sum(dim=1, keepdim=True)
    num_masks = torch.minimum(num_masks.unsqueeze(1), num_rows * width)
    if clusters:
        wrap = sampler == "uniform"
        first_draw = draw_clusters(width, num_rows, num_columns, num_slots, wrap=wrap, generator=generator)
    if clusters and sampler == "official":
        order = official_order(first_draw, num_masks)
    else:
        order = _uniform(batch_size, num_patches, device, generator)
        order = order + first_draw if clusters else order
    is_padding = torch.arange(num_patches, device=device) >= num_rows * width
    last = torch.inf if order.is_floating_point() else torch.iinfo(order.dtype).max
    own = order.masked_fill(is_padding, last).argsort(dim=1)[:, :num_slots]

    # From the numbers in the clip's own grid to those in the batch's
    real_columns_first = column_mask.int().argsort(dim=1, descending=True, stable=True)
    patches = own // width * num_columns + real_columns_first.gather(1, own % width)
    return patches.masked_fill(torch.arange(num_slots, device=device) >= num_masks, -1)


def draw_clusters(
    width: Tensor,
    num_rows: int,
    num_columns: int,
    num_masks: int,
    *,
    wrap: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw square clusters of patches one after the other, and find the first one that covers each patch.

    All clusters of a clip have the same random size.

    Args:
        width: Columns of each clip's own grid, shape (B, 1).
        num_rows: F'.
        num_columns: Columns of the largest grid, T'.
        num_masks: Patches to mask.
        wrap: Whether clusters that cross the upper or right edge continue at the opposite one: every patch is then
            equally likely. Otherwise as in the official code (gen_maskid_patch in src/models/ast_models.py): a cluster
            continues in the next row, ends at the last patch, and never holds the first one.
        generator: Source of randomness.

    Returns:
        For each patch of the clip's own grid, the number of the first draw that covers it, shape (B, F' * T'); the
        patches that no draw covers have the number of draws, which is larger than that of any draw.
    """
    batch_size, device = width.shape[0], width.device
    num_patches = num_rows * num_columns
    # Three times what the smallest clusters need on average; `sample_mask` fills the remainder of nearly full masks.
    # `log2`, because it is the only logarithm that torch.compile traces with dynamic lengths
    share = min(num_masks / num_patches, 1 - 1e-6)
    num_draws = 16 + math.ceil(-3 * math.log(2) * math.log2(1 - share) * num_patches / SMALLEST_CLUSTER**2)
    sizes = LARGEST_CLUSTER - SMALLEST_CLUSTER + 1
    side = SMALLEST_CLUSTER + (_uniform(batch_size, 1, device, generator) * sizes).long().unsqueeze(-1)
    own_patches = num_rows * width
    start = (_uniform(batch_size, num_draws, device, generator) * own_patches).long()
    start = torch.minimum(start, own_patches - 1).unsqueeze(-1)  # the product may round up

    offset = torch.arange(LARGEST_CLUSTER, device=device)
    down, right = (axis.flatten() for axis in torch.meshgrid(offset, offset, indexing="ij"))
    width, own_patches = width.unsqueeze(-1), own_patches.unsqueeze(-1)
    if wrap:
        members = (start // width + down) % num_rows * width + (start % width + right) % width
        is_member = (down < side) & (right < side)
    else:
        members = start + width * down + right
        is_member = (down < side) & (right < side) & (members > 0) & (members < own_patches)
    draw = torch.arange(num_draws, device=device).unsqueeze(-1)
    draw = torch.where(is_member, draw, num_draws).flatten(1)
    first_draw = torch.full((batch_size, num_patches), num_draws, device=device)
    return first_draw.scatter_reduce(1, members.clamp(max=num_patches - 1).flatten(1), draw, "amin")


def official_order(first_draw: Tensor, num_masks: Tensor) -> Tensor:
    """Order in which the official code takes patches: it draws until it has more than needed, and drops some.

    It drops the last ones in the order of a Python set: the largest numbers if the set's table has a slot for every
    patch (as for the 100 to 400 of 512 in the paper), else the last ones modulo the number of slots. Patches that
    collide in a slot are ordered by their numbers here, where Python moves them to slots nearby: for 10 to 50 of 512,
    that changes how often a patch is masked by 0.4 % of the draws on average, and by 6 % at most.

    Args:
        first_draw: From `draw_clusters`, shape (B, N).
        num_masks: Patches to mask, shape (B, 1).

    Returns:
        Sort keys, shape (B, N): the patches with the smallest ones are masked.
    """
    num_patches = first_draw.shape[1]
    index = torch.arange(num_patches, device=first_draw.device)
    last_draw = first_draw.sort(dim=1).values.gather(1, num_masks.clamp(max=num_patches - 1))
    drawn = first_draw <= last_draw
    slot = index % set_table_size(drawn.sum(dim=1, keepdim=True))
    return (slot + ~drawn * 16 * num_patches) * num_patches + index


def set_table_size(count: Tensor) -> Tensor:
    """Slots of a CPython set after `count` integers, up to 50,000, were added one by one."""
    size = torch.full_like(count, 8)
    slots = 8
    # Objects/setobject.c: at a load of 3/5, the table grows to the power of two above four times the entries
    while (full := -(-3 * (slots - 1) // 5)) <= 50_000:
        slots = 1 << (4 * full).bit_length()
        size = torch.where(count >= full, slots, size)
    return size


# Dtypes that patch numbers may have
INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def without_padding(mask_indices: Tensor, column_mask: Tensor, num_rows: int) -> Tensor:
    """Check given patch numbers (B, K), -1 for none, and replace those in padded columns (B, T') by -1."""
    batch_size, num_columns = column_mask.shape
    num_patches = num_rows * num_columns
    expect_tensor("mask_indices", mask_indices)
    has_shape = mask_indices.ndim == 2 and mask_indices.shape[0] == batch_size and mask_indices.shape[1] > 0
    if not has_shape or mask_indices.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"mask_indices must be integers of shape ({batch_size}, patches to mask), got {mask_indices.dtype} of "
            f"shape {tuple(mask_indices.shape)}."
        )
    are_patches = ((mask_indices >= -1) & (mask_indices < num_patches)).all()
    if torch.compiler.is_compiling():  # a compiled graph can fail, but not with values in its message
        torch._assert_async(are_patches, "mask_indices must be numbers of patches of the grid, or -1 for none.")
    elif not are_patches:
        raise ValueError(
            f"mask_indices has values from {mask_indices.min()} to {mask_indices.max()}, but must be patches of the "
            f"{num_rows} x {num_columns} grid, 0 to {num_patches - 1}, or -1 for none."
        )
    is_real = column_mask.gather(1, mask_indices.clamp(min=0) % num_columns)
    return mask_indices.where(is_real, -1)


def masked_grid(mask_indices: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Patch numbers (B, K), -1 for none -> True where a patch is masked, shape (B, F', T')."""
    num_patches = num_rows * num_columns
    # An extra cell takes the entries of -1
    cells = torch.zeros(mask_indices.shape[0], num_patches + 1, dtype=torch.bool, device=mask_indices.device)
    cells = cells.scatter(1, mask_indices.where(mask_indices >= 0, num_patches), True)
    return cells[:, :num_patches].view(-1, num_rows, num_columns)


def _uniform(batch_size: int, size: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw numbers in [0, 1), shape (B, size), on the generator's device, and move them to `device`."""
    if generator is None:  # not passed on: torch.compile refuses `generator=None` when the shape changes
        return torch.rand(batch_size, size, device=device)
    return torch.rand(batch_size, size, generator=generator, device=generator.device).to(device)
