"""Python of the .proto files, made as any user of them would: with protoc, and from nothing else."""

import importlib
import os
import sys
import tempfile

from grpc_tools import protoc


def generate(proto_dir, files):
    """The messages and the services of some files, by name."""
    with tempfile.TemporaryDirectory() as out:
        well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
        outs = [f"--python_out={out}", f"--grpc_python_out={out}"]
        arguments = ["protoc", f"-I{proto_dir}", f"-I{well_known}", *outs]
        assert protoc.main(arguments + [f"edgesync/v1/{name}.proto" for name in files]) == 0
        sys.path.insert(0, out)
        load = lambda name: importlib.import_module(f"edgesync.v1.{name}")
        return {name: load(f"{name}_pb2") for name in files}, {name: load(f"{name}_pb2_grpc") for name in files}
