"""Peers beside ours: measured together, refusals said, the verdict drawn from the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

from bench.commands import peers
from bench.comparison import Comparison, Entry, compare
from bench.environment import environment
from bench.peers import PEERS, Peer
from genslim.console import SILENT
from genslim.errors import MissingDependency, UserError
from genslim.generator import Generator
from genslim.runtimes import Session
from genslim.target import Target

QUICK = [peer for peer in PEERS if peer.name != "torch.compile"]


def refuse(generator: Generator, target: Target) -> Session:
    """A peer that this machine can't run."""
    raise MissingDependency("there is no such device")


def comparison(small_gan: Generator, peers: list[Peer]) -> Comparison:
    """A short comparison."""
    return compare(
        small_gan,
        [("same", small_gan)],
        Target("openvino", batch=4, threads=1),
        least=0.95,
        count=16,
        rounds=3,
        seconds=5.0,
        seed=0,
        console=SILENT,
        peers=peers,
    )


def test_every_peer_runs_or_says_why_not(small_gan: Generator) -> None:
    found = comparison(small_gan, [*QUICK, Peer("absent", refuse)])
    by_name = {entry.name: entry for entry in found.entries}
    assert by_name["PyTorch eager"].speedup == 1
    assert by_name["PyTorch eager"].ssim == 1
    assert by_name["absent"].reason == "there is no such device"
    assert by_name["absent"].latency_ms is None
    assert by_name["NNCF INT8"].execution is not None
    assert "int8" in by_name["NNCF INT8"].execution
    for name in ("ONNX Runtime fp32", "OpenVINO fp32", "same"):
        assert by_name[name].ssim == pytest.approx(1, abs=1e-3)
    for name in ("PyTorch autocast bf16", "ONNX Runtime INT8", "NNCF INT8, mixed"):
        ssim = by_name[name].ssim
        assert ssim is not None
        assert 0.5 < ssim <= 1
    table = found.markdown()
    assert "| **same** |" in table
    assert "(there is no such device)" in table
    assert "batch 4" in table


def entries(*figures: tuple[str, bool, float, float]) -> Comparison:
    """A comparison of made-up figures."""
    made = tuple(Entry(n, ours, "x", 1.0, speed, ssim) for n, ours, speed, ssim in figures)
    return Comparison("g", Target("openvino", 1, 1), 0.95, 16, made, environment())


def test_only_peers_whose_pictures_hold_count() -> None:
    found = entries(("a", False, 9.0, 0.94), ("b", False, 3.0, 0.96), ("c", True, 12.0, 0.951))
    assert found.best_peer is not None
    assert found.best_peer.name == "b"
    assert found.verdict().startswith("c is 4.00× as fast: the fastest peer at SSIM 0.95 is b")
    assert entries(("a", False, 9.0, 0.94)).verdict() == "no peer holds SSIM 0.95"
    assert "3.00×" in entries(("b", False, 3.0, 0.96), ("c", True, 12.0, 0.9)).verdict()


def test_a_run_is_compared_by_one_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.comparison.PEERS", PEERS[:1])
    monkeypatch.setattr(compare, "__kwdefaults__", {"peers": PEERS[:1]})
    cli("compress", "quantize", "dcgan-mnist", "--fp16", "-o", "run")
    outcome = cli("bench", "peers", "run", "--count", "16", "--rounds", "3", "--json")
    assert outcome.status == 0, outcome.err
    facts = json.loads(outcome.out.splitlines()[-1])
    assert [entry["name"] for entry in facts["entries"]] == ["PyTorch eager", "01-quantize"]
    assert Path("run/bench/peers.md").read_text().startswith("| | ran as |")
    assert json.loads(Path("run/bench/peers.json").read_text())["verdict"] == facts["verdict"]


def test_what_is_only_a_graph_has_no_peers(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genslim.stepping.open_source", lambda *_: graph_gan)
    with pytest.raises(UserError, match="peers start from a module"):
        peers.peers("dcgan-mnist")
