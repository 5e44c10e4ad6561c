"""The one trainer: it resumes, starts from weights, shares batches, and tells what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Cli
from torch import Tensor, nn

from generators.catalogue import entry
from generators.data.mnist import FILES, Digits
from generators.networks.classes import asking_for, class_of, with_one_hot
from generators.networks.steadying import spectrally_normed
from generators.networks.vae import Decoder, Encoder
from generators.shipping import read_weights
from generators.training.adversarial import Adversarial
from generators.training.averaging import averaged
from generators.training.objective import Objective, cosine_decay, linear_decay
from generators.training.schedule import Schedule
from generators.training.trainer import shares, train
from generators.training.variational import Variational
from genslim.console import Console
from genslim.errors import GateFailed, UserError

QUIET = Console(quiet=True)


class Mean(Objective):
    """Learns the mean of its images: enough of a training to watch the trainer by."""

    def __init__(self, seed: int = 0, fails_in_epoch: int = 0) -> None:
        super().__init__(seed)
        torch.manual_seed(seed)
        self.fails_in_epoch, self.epoch = fails_in_epoch, 0
        net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1))
        self.networks = {"net": net, "average": averaged(net, decay=0.5)}
        self.optimisers = {"net": torch.optim.Adam(net.parameters(), 0.1)}

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        noise = torch.randn(len(images), 1, generator=self.random)
        error = self.networks["net"].train()(noise) - images.mean((1, 2, 3))[:, None]
        loss = self.step("net", error.square().mean(), 0.1 * linear_decay(progress))
        self.networks["average"].update_parameters(self.bare("net"))
        return {"loss": loss}

    def judge(self) -> dict[str, float]:
        self.epoch += 1
        if self.epoch == self.fails_in_epoch:
            raise KeyboardInterrupt
        return {"bias": float(self.product()[0].bias)}

    def product(self) -> nn.Module:
        product: nn.Module = self.bare("average").module
        return product.eval()


def some_digits(count: int = 96, side: int = 8) -> Digits:
    random = torch.Generator().manual_seed(1)
    return Digits(
        torch.rand(count, 1, side, side, generator=random) * 2 - 1,
        torch.randint(10, (count,), generator=random),
        sha256="of nothing",
    )


def test_an_interrupted_training_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    schedule = Schedule(epochs=4, batch_size=16)
    whole = Mean()
    whole_verdict = train(whole, some_digits(), schedule, tmp_path / "whole", QUIET)
    with pytest.raises(KeyboardInterrupt):
        train(Mean(fails_in_epoch=3), some_digits(), schedule, tmp_path / "parts", QUIET)
    torch.rand(7)  # the global stream, which dropout draws from, is put back too
    resumed = Mean()
    verdict = train(resumed, some_digits(), schedule, tmp_path / "parts", QUIET)
    assert verdict == whole_verdict
    for name, tensor in whole.product().state_dict().items():
        assert torch.equal(tensor, resumed.product().state_dict()[name])
    rows = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    whole_rows, parts = ([(row["epoch"], row["loss"]) for row in run] for run in rows)
    assert whole_rows == parts
    assert not list(tmp_path.rglob("checkpoint*")), "nothing is left to go on with"


def test_a_checkpoint_of_another_schedule_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Mean(fails_in_epoch=2), some_digits(), Schedule(3, 16), tmp_path, QUIET)
    with pytest.raises(UserError, match="is of an unfinished training"):
        train(Mean(), some_digits(), Schedule(4, 16), tmp_path, QUIET)
    other = Schedule(3, 16, settings={"loss": "hinge"})
    with pytest.raises(UserError, match="is of an unfinished training"):
        train(Mean(), some_digits(), other, tmp_path, QUIET)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="is no checkpoint"):
        train(Mean(), some_digits(), Schedule(3, 16), tmp_path, QUIET)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    data = some_digits()
    data.images[40] = torch.nan
    with pytest.raises(GateFailed, match="loss became nan in epoch 1"):
        train(Mean(), data, Schedule(1, 16), tmp_path, QUIET)


def test_processes_share_every_batch_out() -> None:
    data = some_digits(32)
    whole = next(data.batches(8, torch.Generator().manual_seed(3)))[0]
    parts = []
    for index in range(2):
        place = SimpleNamespace(process_index=index, num_processes=2)
        batches = data.batches(8, torch.Generator().manual_seed(3))
        parts.append(next(shares(batches, place))[0])
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Gradients are shared: both processes end with the same weights, and one writes them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch; from pathlib import Path\n"
        "from test_generators_training import Mean, some_digits, QUIET\n"
        "from generators.training.schedule import Schedule\n"
        "from generators.training.trainer import train\n"
        "objective = Mean(); out = Path(sys.argv[1])\n"
        "train(objective, some_digits(), Schedule(2, 16), out, QUIET)\n"
        "rank = torch.distributed.get_rank(); assert torch.distributed.get_world_size() == 2\n"
        "(out / f'{rank}.txt').write_text(repr(objective.bare('net')[0].bias.item()))\n"
        "torch.distributed.destroy_process_group()\n"
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_training_starts_from_weights_that_fit(tmp_path: Path) -> None:
    objective = Mean(seed=1)
    bias, wide = torch.tensor([7.0]), torch.zeros(3, 3)
    taken = objective.start_from({"0.bias": bias, "0.weight": wide, "else": bias})
    assert taken == ["0.bias"], "another shape and another name are left"
    assert objective.bare("net")[0].bias.item() == 7.0
    assert objective.product()[0].bias.item() == 7.0, "and the average starts there too"
    assert read_weights("dcgan-mnist")["net.0.weight"].dtype == torch.float32
    with pytest.raises(UserError, match="no weights"):
        read_weights(str(tmp_path / "absent.safetensors"))
    (tmp_path / "text.safetensors").write_text("not a tensor in it")
    with pytest.raises(UserError, match="is no safetensors file"):
        read_weights(str(tmp_path / "text.safetensors"))


class Player(nn.Module):
    """A generator or, given classes, a discriminator of 8x8 images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        out: Tensor = self.inner(x)
        return out.unflatten(1, (1, 8, 8)) if classes is None else out.flatten()


def adversarial(**options: object) -> Adversarial:
    torch.manual_seed(0)
    count = int(options.pop("discriminators", 1))  # type: ignore[call-overload]
    return Adversarial(
        Player(nn.Linear(32, 64)),
        [Player(nn.Sequential(nn.Flatten(), nn.Linear(64, 1))) for _ in range(count)],
        latent=32,
        class_of=class_of,
        judge=lambda generator: {"least_digit": 0.1},
        seed=0,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "options", [{}, {"loss": "hinge"}, {"discriminators": 3}, {"augment": 2}], ids=str
)
def test_each_remedy_trains_both_players(options: dict[str, object]) -> None:
    objective = adversarial(**options)
    before = {n: net.state_dict()["inner.weight"].clone() if n == "generator" else None
              for n, net in objective.networks.items() if n != "average"}  # fmt: skip
    data = some_digits()
    losses = objective.train_batch(data.images[:16], data.labels[:16], 0.0)
    assert all(np.isfinite(value) for value in losses.values())
    generator = objective.networks["generator"].state_dict()["inner.weight"]
    assert not torch.equal(generator, before["generator"])
    assert len(objective.players) == options.get("discriminators", 1)


def test_the_losses_are_what_their_papers_say() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.5])
    plain, hinge = adversarial(), adversarial(loss="hinge")
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones(2)) + bce(fake, torch.zeros(2))
    assert plain.discriminator_loss(real, fake).item() == pytest.approx(expected.item())
    assert plain.generator_loss(fake).item() == pytest.approx(bce(fake, torch.ones(2)).item())
    assert hinge.discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.75)
    assert hinge.generator_loss(fake).item() == pytest.approx(0.75)


def test_augmentation_shifts_and_keeps_the_size() -> None:
    objective = adversarial(augment=3)
    spot = torch.full((1, 1, 8, 8), -1.0)
    spot[..., 4, 4] = 1
    seen = set()
    for _ in range(100):
        shifted = objective.augmented(spot)
        assert shifted.shape == spot.shape
        ((y, x),) = (shifted[0, 0] == 1).nonzero().tolist()
        seen.add((y - 4, x - 4))
    assert {max(seen)[0], min(seen)[0]} == {3, -3}
    assert torch.equal(adversarial().augmented(spot), spot)


def test_a_spectral_norm_is_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10)
    spectrally_normed(network).train()
    for _ in range(50):  # each pass takes one step of the power iteration
        network(torch.randn(2, 3, 3, 3))
    for layer in (network[0], network[2]):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        assert norm == pytest.approx(1, abs=0.01)


def test_collapses_raise_an_alarm() -> None:
    gan = adversarial()
    assert gan.alarm({"least_digit": 0.1}) is None
    assert "mode collapse" in (gan.alarm({"least_digit": 0.0}) or "")
    vae = Variational(Encoder(4), Decoder((8, 8, 8)), judge=lambda decoder: {}, seed=0)
    assert vae.alarm({"active_latents": 0.5}) is None
    assert "posterior collapse" in (vae.alarm({"active_latents": 0.0}) or "")


def test_a_vae_learns_and_uses_its_latent() -> None:
    torch.manual_seed(0)
    vae = Variational(
        Encoder(8), Decoder((16, 16, 8)), judge=lambda decoder: {}, seed=0, kl_weight=0.1
    )
    images = torch.where(some_digits(64, 28).images > 0.6, 1.0, -1.0)
    labels = torch.arange(64) % 10
    losses = [vae.train_batch(images, labels, step / 60) for step in range(60)]
    assert losses[-1]["reconstruction"] < 0.9 * losses[0]["reconstruction"]
    assert vae.judge()["active_latents"] > 0
    sheet = vae.sheet()
    assert sheet.shape == (100, 1, 28, 28)
    assert -1 <= float(sheet.min()) < float(sheet.max()) <= 1


def test_a_latent_asks_for_its_class() -> None:
    classes = torch.arange(10)
    z = asking_for(classes, torch.randn(10, 22))
    assert torch.equal(class_of(z), classes)
    assert torch.equal(with_one_hot(z), z)
    drawn = torch.randn(500, 32)
    assert torch.equal(class_of(with_one_hot(drawn)), class_of(drawn))
    assert torch.equal(with_one_hot(drawn)[:, 10:], drawn[:, 10:])


def test_learning_rates_rise_and_fall() -> None:
    cosine = [cosine_decay(step / 100) for step in range(100)]
    assert cosine[0] < 0.1
    assert max(cosine) == pytest.approx(1)
    assert cosine[-1] < 0.001
    assert [linear_decay(p) for p in (0.0, 0.5, 0.75)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("loss=wasserstein", "loss='wasserstein' is not known; it is non-saturating or hinge"),
        ("spectral_norm=1", "it is true or false"),
        ("discriminators=two", "no whole number"),
        ("colour=red", "it has loss, spectral_norm, discriminators, augment"),
        ("loss", "write --option NAME=VALUE"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(
    cli: Cli, tmp_path: Path, option: str, said: str
) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for images, labels in FILES.values():
        (folder / images).write_bytes(
            np.array([0x803, 1, 28, 28], dtype=">u4").tobytes() + bytes(784)
        )
        (folder / labels).write_bytes(np.array([0x801, 1], dtype=">u4").tobytes() + bytes(1))
    words = ("generators", "train", "dcgan-mnist", "--data", folder, "--dry-run")
    assert cli(*words, "--option", "loss=hinge").status == 0
    assert said in cli(*words, "--option", option).refused()


def test_every_entry_draws_what_its_signature_says() -> None:
    for name in ("gan-mnist", "dcgan-mnist", "dcgan-skip-mnist", "vae-mnist"):
        chosen = entry(name)
        (spec,) = chosen.signature().outputs
        with torch.no_grad():
            images = chosen.build()(torch.randn(4, 32))
        assert images.shape == (4, *spec.shape[1:])
        low, high = spec.value_range
        assert low <= float(images.min()) < float(images.max()) <= high
