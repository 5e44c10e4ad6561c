"""The commands of the ``export`` program. Everything heavy is imported when one is run."""

from __future__ import annotations

from typing import Literal

from genslim.command import Common


def onnx(
    source: str | None = None,
    /,
    *,
    precision: Literal["auto", "fp16"] = "auto",
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Export to one ONNX file: dynamic shapes, standard operators, parity checked.

    Args:
        source: What to export: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        precision: auto: as the generator is; fp16: weights, inputs and outputs in 16 bits.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.onnx import Onnx
    from export.working import export_source

    export_source(Onnx(common.output, tolerance, precision), source, common)


def openvino(
    source: str | None = None,
    /,
    *,
    precision: Literal["auto", "fp16"] = "auto",
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Export to OpenVINO: model.xml and model.bin, parity checked on OpenVINO itself.

    Args:
        source: What to export: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        precision: auto: weights as the generator has them; fp16: stored in 16 bits, which halves
            the file.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.openvino import OpenVino
    from export.working import export_source

    export_source(OpenVino(common.output, tolerance, precision), source, common)


def trt(
    source: str | None = None,
    /,
    *,
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto",
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Build a TensorRT engine, with the tensorrt package or else with tensorrt_rtx.

    The latter needs no GPU to build.

    Args:
        source: What to export: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        precision: auto: as the generator is; fp16: what is float in 16 bits; fp32, int8: the
            generator must be that already.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.tensorrt import TensorRt
    from export.working import export_source

    export_source(TensorRt(common.output, tolerance, precision), source, common)
