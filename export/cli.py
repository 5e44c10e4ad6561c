"""The ``export`` program: its commands, as data."""

from __future__ import annotations

from genslim.command import Command, Group

FP16 = {"--fp16": ("--precision", "fp16")}
PRECISIONS = {f"--{kind}": ("--precision", kind) for kind in ("fp32", "fp16", "int8")}

export = Group(
    "export",
    "Write files to deploy. Each is checked against the generator and stands in the run.",
    (
        Command(
            "onnx",
            "one ONNX file, dynamic shapes, parity checked",
            "export.commands:onnx",
            shorthands=FP16,
            epilogue="Examples: export onnx -o fast.onnx; export onnx runs/00-dcgan-mnist --fp16",
        ),
        Command(
            "openvino",
            "OpenVINO IR: model.xml and model.bin",
            "export.commands:openvino",
            shorthands=FP16,
            epilogue="Example: export openvino -o deploy/model.xml",
        ),
        Command(
            "trt",
            "a TensorRT engine",
            "export.commands:trt",
            shorthands=PRECISIONS,
            epilogue="Examples: export trt --fp16 -o engine.plan; "
            "export trt --fp16 --target-gpu sm_86,sm_89 --max 1,3,720,1280",
        ),
        Command(
            "triton",
            "a model repository for NVIDIA Triton Inference Server",
            "export.commands:triton",
            shorthands=FP16,
            epilogue="Example: export triton --fp16 --instances 2 -o model_repository/",
        ),
    ),
)
