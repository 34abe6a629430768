//! Compiles the `.proto` files with protox, so that no protoc has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 5] = [
    "lockgate/v1/registry.proto",
    "lockgate/v1/identity.proto",
    "lockgate/v1/policy.proto",
    "lockgate/v1/operations.proto",
    "lockgate/v1/sync.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo passes OUT_DIR through the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=lockgate");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        // A whole configuration is sent to many proxies, and copied for none of them.
        .bytes(".lockgate.v1.Resource.body")
        // Keys are parts of sync resources, which go through sets and maps.
        .type_attribute(".lockgate.v1.ResourceKey", "#[derive(PartialOrd, Ord)]")
        .compile_fds(descriptors)?;
    Ok(())
}
