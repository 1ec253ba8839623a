//! The protocol `edgesync.v1`: the code made from the .proto files beside this crate, and
//! [`convert`], the one place where wire messages become core types and back.

/// Messages, clients and servers of `edgesync.v1`; their documentation is that of the .proto files.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
pub mod v1 {
    tonic::include_proto!("edgesync.v1");
}

pub mod convert;
mod secret;

mod rpc {
    include!(concat!(env!("OUT_DIR"), "/rpc.rs"));
}

pub use rpc::Rpc;

impl Rpc {
    /// The RPC of a request's path, such as `/edgesync.v1.RecordService/CreateRecord`.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix('/')?;
        Self::ALL.iter().copied().find(|rpc| rpc.name() == name)
    }
}

/// The encoded `FileDescriptorSet` of `edgesync.v1`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgesync.v1.bin"));
