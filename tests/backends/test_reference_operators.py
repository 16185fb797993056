"""Operators beyond softmax attention, against independent programs: recurrences, ragged lists, packed integers, sampling."""

from __future__ import annotations

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import reference
from tests.backends.plain import close, randn


def test_normalised_elementwise_recurrence() -> None:
    text = """
    def scaled(m, x) = if(m == -inf, 0, exp(m - x))
    cascade wkv(K[b,t,d], V[b,t,d], W[d], U[d]) -> O[b,t,d] {
      M[b,0,d] = -inf
      A[b,0,d] = 0
      B[b,0,d] = 0
      C[b,t,d] = max(M[b,t,d], U[d] + K[b,t,d])
      Y[b,t,d] = exp(U[d] + K[b,t,d] - C[b,t,d])
      F[b,t,d] = scaled(M[b,t,d], C[b,t,d])
      O[b,t,d] = (F[b,t,d] * A[b,t,d] + Y[b,t,d] * V[b,t,d]) / (F[b,t,d] * B[b,t,d] + Y[b,t,d])
      M[b,t+1,d] = max(M[b,t,d] - W[d], K[b,t,d])
      G[b,t,d] = scaled(M[b,t,d] - W[d], M[b,t+1,d])
      Z[b,t,d] = exp(K[b,t,d] - M[b,t+1,d])
      A[b,t+1,d] = G[b,t,d] * A[b,t,d] + Z[b,t,d] * V[b,t,d]
      B[b,t+1,d] = G[b,t,d] * B[b,t,d] + Z[b,t,d]
    }"""
    k, v, w, u = randn(2, 7, 3, grad=True), randn(2, 7, 3, seed=1), randn(3).abs(), randn(3, seed=1)
    expected = []
    for i in range(7):
        den = (u + k[:, i]).exp()
        num = den * v[:, i]
        for j in range(i):
            weight = (k[:, j] - (i - 1 - j) * w).exp()
            num, den = num + weight * v[:, j], den + weight
        expected.append(num / den)
    out = reference(text)(k, v, w, u)
    wanted = torch.stack(expected, 1)
    close(out, wanted)
    close(torch.autograd.grad(out.sum(), k)[0], torch.autograd.grad(wanted.sum(), k)[0])
    big = reference(text)(300 * k, v, w, u)
    assert isinstance(big, torch.Tensor) and big.isfinite().all()


def test_scalar_decay_given_by_the_data() -> None:
    text = """cascade ssd(X[b,h,t,f], DT[b,h,t], A[h], BM[b,t,e], CM[b,t,e], DK[h]) -> Y[b,h,t,f] {
      S[b,h,t+1,e,f] = exp(DT[b,h,t] * A[h]) * S[b,h,t,e,f] + BM[b,t,e] * DT[b,h,t] * X[b,h,t,f]
      Y[b,h,t,f] = CM[b,t,e] * S[b,h,t+1,e,f] + DK[h] * X[b,h,t,f]
    }"""
    x, dt, a = randn(1, 2, 6, 3), randn(1, 2, 6).exp(), -randn(2).exp()
    b, c, d = randn(1, 6, 4), randn(1, 6, 4, seed=1), randn(2)
    decay = (dt * a[:, None]).cumsum(-1)
    weights = (c @ b.mT)[:, None] * (decay[..., :, None] - decay[..., None, :]).exp().tril()
    close(reference(text)(x, dt, a, b, c, d), weights @ (dt[..., None] * x) + d[:, None, None] * x)


def test_ragged_lists_of_neighbours() -> None:
    text = """cascade edges(Q[m,e], K[n,e], V[n,f], RP[r], CI[z], EB[z]) -> O[m,f] {
      S[m,z] = Q[m,e] * K[CI[z], e] + EB[z] where RP[m + 0] <= z and z < RP[m + 1]
      A[m,z] = softmax[z](S[m,z])
      O[m,f] = A[m,z] * V[CI[z], f]
    }"""
    q, k, v, bias = randn(3, 4), randn(5, 4), randn(5, 2), randn(5)
    rows, columns = torch.tensor([0, 3, 3, 5]), torch.tensor([4, 0, 0, 2, 1])
    expected = torch.zeros(3, 2, dtype=torch.float64)
    for i in (0, 2):
        part = slice(int(rows[i]), int(rows[i + 1]))
        expected[i] = (k[columns[part]] @ q[i] + bias[part]).softmax(0) @ v[columns[part]]
    close(reference(text)(q, k, v, rows, columns, bias), expected)


def test_a_threshold_from_two_moments() -> None:
    text = """cascade stat(Q[m,e], K[n,e], V[n,f]; z: float) -> O[m,f] {
      S[m,n] = Q[m,e] * K[n,e] / sqrt(E) where n <= m
      MU[m] = mean[n](S[m,n])
      SD[m] = sqrt(mean[n]((S[m,n] - MU[m])**2))
      X[m,n] = S[m,n] where S[m,n] >= MU[m] + z * SD[m]
      A[m,n] = softmax[n](X[m,n])
      O[m,f] = A[m,n] * V[n,f]
    }"""
    q, k, v = randn(6, 4), randn(6, 4, seed=1), randn(6, 2)
    expected = torch.zeros(6, 2, dtype=torch.float64)
    for m in range(6):
        s = k[: m + 1] @ q[m] / 2
        kept = s >= s.mean() + 0.2 * s.std(correction=0)
        if kept.any():
            expected[m] = s[kept].softmax(0) @ v[: m + 1][kept]
    close(reference(text)(q, k, v, z=0.2), expected)


def test_compressed_selected_and_window_branches() -> None:
    text = """cascade nsa(Q[h,m,e], K[g,n,e], V[g,n,f], WC[i], GA[h,m,u]; T = I, C = N // I, w = 3) -> O[h,m,f] {
      KC[g,c,e] = WC[i] * K[g, c * T + i, e]
      VC[g,c,f] = WC[i] * V[g, c * T + i, f]
      S1[h,m,c] = Q[h,m,e] * KC[h // (H // G), c, e] where (c + 1) * T <= m + 1
      P1[h,m,c] = softmax[c](S1[h,m,c])
      BS[g,m,c] = sum[h](P1[h,m,c]) where h // (H // G) == g
      I[g,m,j] = topk[c](BS[g,m,c] where (c + 1) * T <= m + 1, count = 2)
      S0[h,m,n] = Q[h,m,e] * K[h // (H // G), n, e] where n <= m
      S2[h,m,n] = S0[h,m,n] where n // T in I[h // (H // G), m, :]
      S3[h,m,n] = S0[h,m,n] where m - n < w
      A2[h,m,n] = softmax[n](S2[h,m,n])
      A3[h,m,n] = softmax[n](S3[h,m,n])
      O1[h,m,f] = P1[h,m,c] * VC[h // (H // G), c, f]
      O2[h,m,f] = A2[h,m,n] * V[h // (H // G), n, f]
      O3[h,m,f] = A3[h,m,n] * V[h // (H // G), n, f]
      O[h,m,f] = GA[h,m,0] * O1[h,m,f] + GA[h,m,1] * O2[h,m,f] + GA[h,m,2] * O3[h,m,f]
    }"""
    q, k, v, wc, ga = randn(4, 12, 3), randn(2, 12, 3), randn(2, 12, 2), randn(4), randn(4, 12, 3)
    out = reference(text)(q, k, v, wc, ga)
    kc, vc = (torch.einsum("i,gcie->gce", wc, x.view(2, 3, 4, -1)) for x in (k, v))
    expected = torch.zeros(4, 12, 2, dtype=torch.float64)
    for g in range(2):
        for m in range(12):
            heads = (2 * g, 2 * g + 1)
            seen = (m + 1) // 4
            maps = {h: (kc[g, :seen] @ q[h, m]).softmax(0) for h in heads}
            share = maps[heads[0]] + maps[heads[1]]
            blocks = share.topk(min(2, seen)).indices.tolist() if seen else []
            chosen = [n for n in range(m + 1) if n // 4 in blocks]
            near = range(max(0, m - 2), m + 1)
            for h in heads:
                row = ga[h, m, 0] * (maps[h] @ vc[g, :seen]) if seen else torch.zeros(2, dtype=torch.float64)
                for gate, keys in ((ga[h, m, 1], chosen), (ga[h, m, 2], list(near))):
                    if keys:
                        row = row + gate * ((k[g, keys] @ q[h, m]).softmax(0) @ v[g, keys])
                expected[h, m] = row
    close(out, expected)


def test_four_bit_keys() -> None:
    text = """cascade int4(Q[m,e], KB[n,u], KS[n]) -> S[m,n] {
      KX[n,e] = if(e % 2 == 0, KB[n, e // 2] & 15, KB[n, e // 2] >> 4)
      S[m,n] = Q[m,e] * KS[n] * (KX[n,e] - 8)
    }"""
    packed = torch.randint(0, 256, (5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    q, scale = randn(2, 6), randn(5)
    keys = torch.stack([packed & 15, packed >> 4], -1).flatten(1).double() - 8
    close(reference(text)(q, packed, scale), q @ keys.T * scale)


def test_bilinear_samples() -> None:
    text = """cascade deform(V[h,y,x,f], PX[h,m,p], PY[h,m,p], W[h,m,p]) -> O[h,m,f] {
      X0[h,m,p] = cast(floor(PX[h,m,p]), i32)
      Y0[h,m,p] = cast(floor(PY[h,m,p]), i32)
      WX[h,m,p,i] = if(i == 0, 1 - (PX[h,m,p] - X0[h,m,p]), PX[h,m,p] - X0[h,m,p])
      WY[h,m,p,j] = if(j == 0, 1 - (PY[h,m,p] - Y0[h,m,p]), PY[h,m,p] - Y0[h,m,p])
      T[h,m,p,j,i,f] = default(V[h, Y0[h,m,p] + j, X0[h,m,p] + i, f], 0)
      O[h,m,f] = W[h,m,p] * WY[h,m,p,j] * WX[h,m,p,i] * T[h,m,p,j,i,f]
    }""".replace("W[h,m,p])", "W[h,m,p]; I = 2, J = 2)")
    v = randn(2, 5, 6, 3, grad=True)
    px = (torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1)).double() * 7 - 1).requires_grad_()
    py, w = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(2)).double() * 6 - 1, randn(2, 4, 3)
    grid = torch.stack([2 * px / 5 - 1, 2 * py / 4 - 1], -1)
    sampled = torch.nn.functional.grid_sample(v.permute(0, 3, 1, 2), grid, align_corners=True)
    expected = torch.einsum("hfmp,hmp->hmf", sampled, w)
    out = reference(text)(v, px, py, w)
    close(out, expected)
    for found, wanted in zip(
        torch.autograd.grad(out.sum(), (v, px)), torch.autograd.grad(expected.sum(), (v, px)), strict=True
    ):
        close(found, wanted)


@pytest.mark.parametrize("name", ["int8", "e4m3"])
def test_products_of_quantised_operands(name: str) -> None:
    text = {
        "int8": """cascade c(Q[m,e], K[n,e]) -> S[m,n] {
          DQ[m] = max[e](abs(Q[m,e])) / 127
          DK[n] = max[e](abs(K[n,e])) / 127
          QI[m,e] = cast(round(Q[m,e] / DQ[m]), i8)
          KI[n,e] = cast(round(K[n,e] / DK[n]), i8)
          S[m,n] = QI[m,e] * KI[n,e] * DQ[m] * DK[n]
        }""",
        "e4m3": """cascade c(Q[m,e], K[n,e]) -> S[m,n] {
          S[m,n] = sum[e](cast(Q[m,e], f8e4m3) * cast(K[n,e], f8e4m3))
        }""",
    }[name]
    q, k = randn(3, 8), randn(4, 8)
    if name == "int8":
        dq, dk = (x.abs().amax(1, keepdim=True) / 127 for x in (q, k))
        expected = ((q / dq).round() @ (k / dk).round().T) * dq * dk.T
    else:
        low = [x.to(torch.float8_e4m3fn).double() for x in (q, k)]
        expected = low[0] @ low[1].T
    close(reference(text)(q, k), expected)
