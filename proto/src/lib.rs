//! The protocol `edgesync.v1`: the code made from the .proto files beside this crate, and
//! [`convert`], the one place where wire messages become core types and back.

/// Messages, clients and servers of `edgesync.v1`; their documentation is that of the .proto files.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
pub mod v1 {
    tonic::include_proto!("edgesync.v1");
}

pub mod convert;

/// The encoded `FileDescriptorSet` of `edgesync.v1`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgesync.v1.bin"));
