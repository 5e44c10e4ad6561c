"""The ``generators`` program: its commands, as data."""

from __future__ import annotations

from genslim.command import Command, Group

generators = Group(
    "generators",
    "Reference generators, trained for real and small enough to ship.",
    (
        Command("list", "what there is, and how good it is", "generators.commands:list_entries"),
        Command("train", "train one, and keep its weights", "generators.commands:train"),
        Command(
            "sample",
            "draw samples, and write them as PNG files or a sheet",
            "generators.commands:sample",
            epilogue="generators sample dcgan-mnist --n 10000 --runtime openvino -o samples/",
        ),
        Command(
            "onnx",
            "of text to image: a step with its key-value cache, and the painter, as ONNX files",
            "generators.commands:onnx",
            epilogue="generators onnx text-mnist -o text-mnist/",
        ),
    ),
)
