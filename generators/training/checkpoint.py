"""Where an interrupted training goes on: everything that the next epoch depends on, in one file.

It is read as tensors and plain data alone, and replaced by a rename, so that a training killed at
any moment leaves the last epoch's checkpoint whole.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.training.objective import Objective
from generators.training.schedule import Schedule
from genslim.errors import UserError
from genslim.storage import write_whole


@dataclass(frozen=True)
class Checkpoint:
    """The file at ``path``, of a training of ``schedule``."""

    path: Path
    schedule: Schedule

    def save(
        self,
        objective: Objective,
        random: torch.Generator,
        epoch: int,
        seconds: float,
        verdict: dict[str, float],
    ) -> None:
        """Replace what was there.

        Args:
            objective: as it is after the epoch.
            random: what the order of the data is drawn from.
            epoch: how many are done.
            seconds: how long they took.
            verdict: the judgement after the last of them.

        Raises:
            UserError: it can't be written; what was there stays.
        """
        file = BytesIO()
        content = {
            "schedule": plain(self.schedule),
            "objective": objective.state(),
            "order": random.get_state(),
            "streams": global_streams(objective.device),
            "epoch": epoch,
            "seconds": seconds,
            "verdict": verdict,
        }
        torch.save(content, file)
        write_whole(self.path, file.getvalue())

    def resume(
        self, objective: Objective, random: torch.Generator
    ) -> tuple[int, float, dict[str, float]]:
        """Put everything back as it was saved, if it was.

        Returns:
            The epochs done, the seconds they took and the judgement after them: 0, 0 and nothing
            without a checkpoint.

        Raises:
            UserError: the checkpoint is of another schedule, or none.
        """
        if not self.path.is_file():
            return 0, 0.0, {}
        content = self._read()
        if content["schedule"] != plain(self.schedule):
            raise UserError(
                f"{self.path} is of an unfinished training of another length, seed or options: "
                f"{content['schedule']}",
                hint="give the same command again to go on with it, or delete it to start anew",
            )
        objective.restore(content["objective"])
        random.set_state(content["order"])
        for kind, state in content["streams"].items():
            if kind == "cpu":
                torch.set_rng_state(state)
            elif kind == objective.device.type:
                torch.get_device_module(objective.device).set_rng_state(state)
        return content["epoch"], content["seconds"], content["verdict"]

    def remove(self) -> None:
        """The training is done."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """What the file holds."""
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            return {"schedule": content["schedule"], **content}
        except Exception as error:  # whatever torch makes of a damaged file
            raise UserError(
                f"{self.path} is no checkpoint, or a damaged one",
                hint="delete it to start anew",
            ) from error


def plain(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain data."""
    return {**asdict(schedule), "settings": dict(schedule.settings)}


def global_streams(device: torch.device) -> dict[str, Tensor]:
    """The state of the random streams that layers such as dropout draw from, by kind of device."""
    streams = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        streams[device.type] = torch.get_device_module(device).get_rng_state()
    return streams
