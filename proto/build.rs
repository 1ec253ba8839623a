//! Makes Rust from `edgesync/v1/*.proto`: protox reads them, so no protoc is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 8] = [
    "edgesync/v1/change_set.proto",
    "edgesync/v1/edge.proto",
    "edgesync/v1/fleet.proto",
    "edgesync/v1/position.proto",
    "edgesync/v1/record.proto",
    "edgesync/v1/snapshot.proto",
    "edgesync/v1/sync.proto",
    "edgesync/v1/zone.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("edgesync.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
