//! Makes Rust from `edgesync/v1/*.proto`: protox reads them, so no protoc is needed. Each RPC becomes a
//! variant of an enum, so that what has to be said of every one of them cannot be left out.

use std::{env, fmt::Write, fs, path::PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

const FILES: [&str; 9] = [
    "edgesync/v1/access.proto",
    "edgesync/v1/change_set.proto",
    "edgesync/v1/edge.proto",
    "edgesync/v1/fleet.proto",
    "edgesync/v1/position.proto",
    "edgesync/v1/record.proto",
    "edgesync/v1/snapshot.proto",
    "edgesync/v1/sync.proto",
    "edgesync/v1/zone.proto",
];

/// Messages with a secret in them: `secret.rs` says what is shown of them.
const SECRET: [&str; 3] = [
    ".edgesync.v1.LoginResponse",
    ".edgesync.v1.SetPasswordRequest",
    ".edgesync.v1.CreateTokenResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("edgesync.v1.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("rpc.rs"), rpcs(&descriptors)?)?;
    let code = tonic_prost_build::configure().bytes(".").build_transport(false);
    code.skip_debug(SECRET).compile_fds(descriptors)?;
    Ok(())
}

/// The enum of all RPCs. Two of one name would be two variants of one name, and no Rust.
fn rpcs(descriptors: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let (mut variants, mut names, mut all) = (String::new(), String::new(), String::new());
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service, method) = (file.package(), service.name(), method.name());
                writeln!(variants, "    /// `{service}/{method}`.\n    {method},")?;
                writeln!(names, "            Self::{method} => \"{package}.{service}/{method}\",")?;
                writeln!(all, "        Self::{method},")?;
            }
        }
    }
    Ok(format!(
        "/// An RPC of the protocol.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub enum Rpc {{\n{variants}}}\n\n\
         impl Rpc {{\n    /// All of them.\n    pub const ALL: &[Self] = &[\n{all}    ];\n\n    \
         /// Its name, such as `edgesync.v1.RecordService/CreateRecord`.\n    #[must_use]\n    \
         pub const fn name(self) -> &'static str {{\n        match self {{\n{names}        }}\n    \
         }}\n}}\n"
    ))
}
