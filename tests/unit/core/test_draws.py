"""Stateless random numbers: good ones, and a sample's own."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.draws import Draws, row_keys, sample_key

whole_numbers = st.integers(-(2**63), 2**63 - 1)
N, D = 200, 1000
IDS = torch.arange(N)


def uniforms(key: int = 0, name: str = "a") -> torch.Tensor:
    return Draws(IDS, key).uniform(name, D).double()


def normals(key: int = 0, name: str = "a") -> torch.Tensor:
    return Draws(IDS, key).normal(name, D).double()


def test_uniforms_are_uniform() -> None:
    u = uniforms()
    assert bool(((u >= 0) & (u < 1)).all())
    assert abs(float(u.mean()) - 1 / 2) < 0.003
    assert abs(float(u.var()) - 1 / 12) < 0.001
    counts = (u.flatten() * 64).long().bincount(minlength=64).double()
    expected = N * D / 64
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert 25 < chi2 < 120  # 63 degrees of freedom


def test_normals_are_normal() -> None:
    z = normals()
    assert bool(z.isfinite().all())
    assert abs(float(z.mean())) < 0.01
    assert abs(float(z.var()) - 1) < 0.02
    assert abs(float((z**3).mean())) < 0.03
    assert abs(float((z**4).mean()) - 3) < 0.1
    # as often beyond a, on either side, as a normal number is
    normal = torch.distributions.Normal(0.0, 1.0)
    for a in (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0):
        assert abs(float((z < a).double().mean()) - float(normal.cdf(torch.tensor(a)))) < 0.004
    assert float(z.abs().max()) > 4


@pytest.mark.parametrize("kind", [uniforms, normals], ids=["uniform", "normal"])
def test_nothing_is_correlated(kind) -> None:
    z = kind()
    z = (z - z.mean()) / z.std()
    # neighbouring values, neighbouring samples, names, keys
    pairs = {
        "elements": (z[:, 1:], z[:, :-1]),
        "far elements": (z[:, 500:], z[:, :500]),
        "samples": (z[1:], z[:-1]),
        "names": (z, kind(name="b")),
        "keys": (z, kind(key=1)),
    }
    for what, (one, other) in pairs.items():
        other = (other - other.mean()) / other.std()
        assert abs(float((one * other).mean())) < 0.015, what
    # no sample and no element stands out
    assert float(z.mean(1).abs().max()) < 5 / D**0.5
    assert float(z.mean(0).abs().max()) < 5 / N**0.5


def test_streams_differ() -> None:
    """No two of (name, look, key, neighbouring id) share a single run of numbers."""
    base = Draws(torch.tensor([0, 1, 2, -1, 2**62, -(2**63)]), 0)
    streams = {}
    for fold, name in itertools.product((None, 0, 1, "0 ", "init", "look"), ("start", "sign", "")):
        draws = base if fold is None else base.fold(fold)
        for i, row in enumerate(draws.uniform(name, 40)):
            streams[fold, name, i] = row
    assert len(streams) == 6 * 3 * 6
    for (one, a), (other, b) in itertools.combinations(streams.items(), 2):
        assert not torch.equal(a, b), (one, other)
    # nor the same numbers shifted by one
    values = [row[:8].tolist() for row in streams.values()]
    seen = {value for row in values for value in row}
    assert len(seen) > 0.99 * 8 * len(values)


def test_a_stream_is_not_its_neighbour_shifted() -> None:
    """A counter-based stream must not be the next sample's, one step on."""
    u = uniforms()
    for shift in (1, 2, 3):
        assert not bool((u[:-1, shift:] == u[1:, :-shift]).all(1).any())
        assert float((u[:-1, shift:] == u[1:, :-shift]).double().mean()) < 1e-4


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.text("ab ", max_size=3),
)
def test_a_sample_s_numbers_are_its_own(ids: list[int], key: int, name: str) -> None:
    draws = Draws(torch.tensor(ids, dtype=torch.int64), key)
    whole = draws.normal(name, 2, 3)
    keep = torch.arange(len(ids)).flip(0)[: max(1, len(ids) // 2)]
    assert torch.equal(draws.take(keep).normal(name, 2, 3), whole[keep])
    assert torch.equal(draws.fold(3).take(keep).uniform(name, 5), draws.take(keep).fold(3).uniform(name, 5))
    # and more of them begin with the same
    assert torch.equal(draws.uniform(name, 6), draws.uniform(name, 9)[:, :6])


def splitmix64(state: int) -> int:
    """Return the output of splitmix64 (Steele et al. 2014) whose state has become `state`, in plain integers."""
    z = state % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


GOLDEN = 0x9E3779B97F4A7C15


def hashed(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def test_the_hash_is_splitmix64() -> None:
    """Its published outputs from state 1234567, then our numbers, both in Python's own integers."""
    assert [splitmix64(1234567 + i * GOLDEN) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]
    draws = Draws(torch.tensor([5, -7]), 11)
    expected = [
        [splitmix64(splitmix64(i * GOLDEN + hashed(11, "a")) + j * GOLDEN) >> 40 for j in (1, 2, 3)] for i in (5, -7)
    ]
    assert (draws.uniform("a", 3) * 2**24).long().tolist() == expected


def test_numbers_are_the_same_for_ever() -> None:
    """A changed generator changes published results."""
    draws = Draws.of(["a", "b"], 0)
    assert draws.ids.tolist() == [sample_key("a"), sample_key("b")] == [hashed("sample", "a"), hashed("sample", "b")]
    assert draws.ids.dtype == torch.int64
    assert draws.fold("init").key == hashed(hashed("seed", 0), "init")
    assert (draws.fold("init").uniform("start", 2) * 2**24).tolist() == [
        [9061682.0, 11604505.0],
        [1422942.0, 7268895.0],
    ]


def test_ids_and_seeds_make_other_numbers() -> None:
    one = Draws.of(["a"], 0).uniform("x", 50)
    assert torch.equal(one, Draws.of(("a",), 0).uniform("x", 50))
    for other in (Draws.of(["b"], 0), Draws.of(["a"], 1), Draws.of(["a "], 0), Draws.of(["a"], 0).fold(0)):
        assert not torch.equal(one, other.uniform("x", 50))
    keys = {sample_key(f"mnist/test/{i:05}") for i in range(5000)}
    assert len(keys) == 5000


def test_shapes() -> None:
    draws = Draws(torch.arange(3))
    assert draws.uniform("a", 2, 4, 5).shape == (3, 2, 4, 5)
    assert draws.uniform("a").shape == (3,)
    assert draws.take(torch.tensor([True, False, True])).normal("a", 2).shape == (2, 2)
    assert draws.take(torch.arange(0)).normal("a", 2).shape == (0, 2)


def test_keys_of_rows_follow_from_the_row_alone() -> None:
    values = torch.randint(-(2**31), 2**31, (50, 7), generator=torch.Generator().manual_seed(0))
    keys = row_keys(values)
    assert keys.shape == (50,)
    assert torch.equal(row_keys(values[[4, 0]]), keys[[4, 0]])
    assert len(set(keys.tolist())) == 50
    assert len({row_keys(torch.zeros(1, n, dtype=torch.int64)).item() for n in range(1, 20)}) == 19


def test_no_two_small_changes_of_a_row_share_a_key() -> None:
    """All rows of three small numbers: a key that is linear in its values gives many of them the same."""
    values = torch.cartesian_prod(*[torch.arange(-20, 21)] * 3)
    assert len(row_keys(values).unique()) == 41**3
    bits = (row_keys(values)[:, None] >> torch.arange(64)) & 1
    assert bits.double().mean(0).tolist() == pytest.approx([0.5] * 64, abs=0.01)
