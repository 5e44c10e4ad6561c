"""The commands of the ``export`` program. Everything heavy is imported when one is run."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from genslim.command import Common


def onnx(
    source: str | None = None,
    /,
    *,
    precision: Literal["auto", "fp16"] = "auto",
    opset: int | None = None,
    simplify: bool = False,
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Export to one ONNX file: dynamic shapes, standard operators, parity checked.

    Args:
        source: What to export: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        precision: auto: as the generator is; fp16: weights, inputs and outputs in 16 bits.
        opset: Version of ONNX's operators that the file is written at, from about 14 on, for
            programs that read no newer one. Default: the graph's own, 20.
        simplify: Write it with fewer operators (needs onnxsim): UNets and nets with attention gain
            about 5 % on ONNX Runtime, plain convolutions nothing.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.onnx import Onnx
    from export.working import export_source

    export_source(Onnx(common.output, tolerance, precision, opset, simplify), source, common)


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
    least: Annotated[tuple[str, ...], Parameter(name="--min")] = (),
    usual: Annotated[tuple[str, ...], Parameter(name="--opt")] = (),
    greatest: Annotated[tuple[str, ...], Parameter(name="--max")] = (),
    target_gpu: str = "",
    timing_cache: str | None = None,
    workspace: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Build a TensorRT engine, with the tensorrt package or else with tensorrt_rtx.

    The latter needs no GPU to build. What was built is read back, layer by layer; an engine that
    does not compute in the precision asked for is kept apart, and the exit status is 1.

    Args:
        source: What to export: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        precision: auto: as the generator is; fp16: what is float in 16 bits; fp32, int8: the
            generator must be that already.
        least: [NAME:]SHAPE of the smallest inputs that the engine takes: 1,3,64,64. Default: from
            the signature, a batch of one and a quarter of the usual sides.
        usual: Of the inputs that it is tuned for. Default: the signature's usual sides.
        greatest: Of the largest. Default: 64 latents, or 4 images of 1024 pixels a side.
        target_gpu: GPUs to build for ahead of time, with commas between: sm_80,sm_86. TensorRT-RTX
            alone. Default: all that the library chooses.
        timing_cache: File that measured kernels are kept in, from one build to the next.
        workspace: MiB of GPU memory that kernels may use for themselves. Default: all.
        version_compatible: Let later versions of the library run the engine.
        hardware_compatible: Let other GPUs run the engine, from Ampere on.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.tensorrt import TensorRt
    from export.working import export_source

    exporter = TensorRt(
        common.output,
        tolerance,
        precision,
        least=least,
        usual=usual,
        greatest=greatest,
        target_gpu=target_gpu,
        timing_cache=timing_cache,
        workspace=workspace,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    export_source(exporter, source, common)


def triton(
    source: str | None = None,
    /,
    *,
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt", "python"] = "auto",
    precision: Literal["auto", "fp16"] = "auto",
    model: str | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    instances: int = 1,
    threads: int | None = None,
    batch: int | None = None,
    delay_ms: float = 2.0,
    tolerance: float | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Write a model repository for NVIDIA Triton Inference Server, ready to serve.

    An engine or OpenVINO's files are served as they are; anything else as an ONNX graph. Where the
    model is in the repository already, this adds a version, which Triton serves from then on.

    Args:
        source: What to serve: an artifact or run folder, or anything else that is a source.
            Default: the newest artifact of the newest run.
        backend: What runs it on the server. auto: tensorrt for an engine, openvino for its files,
            else onnxruntime; python: ONNX Runtime by way of a small program, for servers that have
            no other backend.
        precision: auto: as the generator is; fp16: weights, inputs and outputs in 16 bits
            (openvino: weights alone).
        model: The model's name in the repository. Default: the generator's.
        device: auto: a GPU where the server has one.
        instances: How many copies of the model work side by side, on each GPU or on the CPU.
        threads: Threads of each copy on the CPU. Default: as the backend likes.
        batch: The largest batch that requests are gathered into. Default: 64 where inputs are
            latents, 4 where they are images, or what the engine takes. OpenVINO's backend gathers
            none.
        delay_ms: How long a request waits for others at most.
        tolerance: Largest error allowed, as a part of the value range. Default: 0.001 for fp32,
            0.02 for fp16, 0.25 for int8, and then SSIM decides as well.
        common: what every command takes.
    """
    from export.triton import Triton
    from export.working import export_source

    exporter = Triton(
        common.output,
        tolerance,
        backend,
        precision,
        model,
        device,
        instances,
        threads,
        batch,
        delay_ms,
    )
    export_source(exporter, source, common)
