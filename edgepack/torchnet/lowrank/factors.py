"""Factors of weights ``[co, ci, K]`` in float64: truncated SVD, Tucker-2 and CP.

With the second moments C of the inputs, the decompositions minimise the error of the layer's outputs instead of that of
its weights: C = S S^T (Cholesky), W S is decomposed, and S^-1 is multiplied into the first factor (Chen et al. 2021,
"DRONE"; Wang et al. 2024, "SVD-LLM", arXiv:2403.07378).
"""

from dataclasses import dataclass

import torch

_RIDGE = 1e-6  # of the mean second moment: inputs that never vary must not make the Cholesky factor singular
_SWEEPS = 40  # of alternating least squares
_SETTLED = 1e-5  # change of the relative error between two sweeps


def root_of(moments: torch.Tensor) -> torch.Tensor:
    """Return S, lower triangular, with S S^T = ``moments`` + a small ridge; ``[ci, ci]``."""
    size = len(moments)
    ridge = _RIDGE * float(moments.diagonal().mean()) or _RIDGE
    root: torch.Tensor = torch.linalg.cholesky(moments + ridge * torch.eye(size, dtype=moments.dtype))
    return root


def whiten(weight: torch.Tensor, root: torch.Tensor | None) -> torch.Tensor:
    """Multiply the input axis by S: ``[co, ci, K]``."""
    return weight if root is None else torch.einsum("oik,ij->ojk", weight, root)


def restore(first: torch.Tensor, root: torch.Tensor | None) -> torch.Tensor:
    """Multiply the input axis of the first factor ``[r, ci, K]`` by S^-1."""
    if root is None:
        return first
    inverse = torch.linalg.solve_triangular(root, torch.eye(len(root), dtype=root.dtype), upper=False)
    return torch.einsum("rjk,ji->rik", first, inverse)


@dataclass(frozen=True)
class Svd:
    """``W = second @ first``, with the singular values of the matrix ``[co, ci * K]`` shared between the two."""

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor  # [min(co, ci * K), ci, K]

    @classmethod
    def of(cls, weight: torch.Tensor) -> "Svd":
        """Decompose ``[co, ci, K]``."""
        left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        return cls(left, values, right.reshape(-1, *weight.shape[1:]))

    def kept(self) -> torch.Tensor:
        """The share of the energy that each rank from 1 on keeps."""
        energy = self.values.square().cumsum(0)
        return energy / energy[-1].clamp_min(torch.finfo(energy.dtype).tiny)

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first factor ``[rank, ci, K]`` and the second ``[co, rank]``."""
        scale = self.values[:rank].sqrt()
        return scale[:, None, None] * self.right[:rank], self.left[:, :rank] * scale


@dataclass(frozen=True)
class Tucker2:
    """``W[o, i, k] = sum last[o, s] core[s, r, k] first[r, i]`` (Kim et al. 2016, arXiv:1511.06530), by HOSVD."""

    first: torch.Tensor  # [ci, ci], rows by importance
    core: torch.Tensor  # [co, ci, K]
    last: torch.Tensor  # [co, co], columns by importance

    @classmethod
    def of(cls, weight: torch.Tensor) -> "Tucker2":
        """Decompose ``[co, ci, K]``."""
        last = _leading(weight.flatten(1))
        first = _leading(weight.transpose(0, 1).flatten(1))
        core = torch.einsum("oik,os,ir->srk", weight, last, first)
        return cls(first.T.contiguous(), core, last)

    def kept(self) -> torch.Tensor:
        """The share of the energy that ranks (outputs, inputs) keep: ``[co, ci]``, each from 1 on."""
        energy = self.core.square().sum(2).cumsum(0).cumsum(1)
        return energy / energy[-1, -1].clamp_min(torch.finfo(energy.dtype).tiny)

    def factors(self, outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ``[inputs, ci]``, ``[outputs, inputs, K]`` and ``[co, outputs]``."""
        return self.first[:inputs], self.core[:outputs, :inputs], self.last[:, :outputs]


def _leading(matrix: torch.Tensor) -> torch.Tensor:
    """The left singular vectors of a matrix as columns, the largest first; each with its largest element positive."""
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    vectors = vectors.flip(1)
    largest = vectors.abs().argmax(0)
    signs = vectors[largest, torch.arange(vectors.shape[1])].sign()
    return vectors * torch.where(signs == 0, torch.ones_like(signs), signs)


@dataclass(frozen=True)
class Cp:
    """A sum of ``rank`` outer products, one vector per axis (Lebedev et al. 2015, arXiv:1412.6553)."""

    factors: tuple[torch.Tensor, ...]  # [size of the axis, rank] for each axis of the weight
    kept: float  # share of the energy

    @classmethod
    def of(cls, weight: torch.Tensor, rank: int) -> "Cp":
        """Decompose ``[co, ci, k1, ...]`` by alternating least squares, from the leading singular vectors of each axis."""
        total = float(weight.square().sum()) or 1.0
        axes = range(weight.dim())
        factors = [_start(weight.transpose(0, axis).flatten(1), rank, axis) for axis in axes]
        before = 1.0
        for _ in range(_SWEEPS):
            for axis in axes:
                gram = _product_of_grams(factors, axis)
                ridge = 1e-9 * float(gram.diagonal().mean()) * torch.eye(rank, dtype=gram.dtype)
                projected = _projected(weight, factors, axis)
                factors[axis] = torch.linalg.solve(gram + ridge, projected.T).T
            overlap = float((projected * factors[-1]).sum())
            norm = float((_product_of_grams(factors, -1) * (factors[-1].T @ factors[-1])).sum())
            error = (total - 2 * overlap + norm) / total
            if abs(before - error) < _SETTLED:
                break
            before = error
        norms = [factor.norm(dim=0).clamp_min(1e-12) for factor in factors]
        shared = (
            torch.stack(norms).log().mean(0).exp()
        )  # all factors equally large: none is small beside the others
        balanced = tuple(factor / norm * shared for factor, norm in zip(factors, norms, strict=True))
        return cls(balanced, 1 - float((weight - product(balanced)).square().sum()) / total)


def product(factors: "list[torch.Tensor] | tuple[torch.Tensor, ...]") -> torch.Tensor:
    """Return the tensor with these CP factors."""
    shape = [len(factor) for factor in factors]
    return (factors[0] @ _khatri_rao(list(factors[1:])).T).reshape(shape)


def _khatri_rao(factors: list[torch.Tensor]) -> torch.Tensor:
    joined = factors[0]
    for factor in factors[1:]:
        joined = (joined[:, None] * factor[None]).reshape(-1, factor.shape[1])
    return joined


def _product_of_grams(factors: list[torch.Tensor], without: int) -> torch.Tensor:
    """The Gram matrix of the Khatri-Rao product of all factors but one: the elementwise product of theirs."""
    without %= len(factors)
    grams = [factor.T @ factor for axis, factor in enumerate(factors) if axis != without]
    return torch.stack(grams).prod(0)


def _projected(weight: torch.Tensor, factors: list[torch.Tensor], axis: int) -> torch.Tensor:
    """The weight times the Khatri-Rao product of all factors but that of ``axis``: ``[size of the axis, rank]``."""
    first, *others = (other for other in range(weight.dim()) if other != axis)
    found = torch.tensordot(
        weight, factors[first], dims=([first], [0])
    )  # the axis ``first`` is gone, the rank is last
    for number, other in enumerate(others):
        place = other - 1 - number if other > first else other - number
        shape = [1] * found.dim()
        shape[place], shape[-1] = factors[other].shape
        found = (found * factors[other].reshape(shape)).sum(place)
    return found


def _start(matrix: torch.Tensor, rank: int, axis: int) -> torch.Tensor:
    leading = _leading(matrix)[:, :rank]
    missing = rank - leading.shape[1]
    if missing <= 0:
        return leading
    generator = torch.Generator().manual_seed(axis)
    return torch.cat([leading, torch.randn(len(matrix), missing, generator=generator, dtype=matrix.dtype)], 1)
