//! Compiles the .proto files without a protoc.

#[path = "build/schemas.rs"]
mod schemas;

use std::{env, fs, path::PathBuf};

const FILES: &[&str] = &[
    "hearth/log/v1/account.proto",
    "hearth/log/v1/chat.proto",
    "hearth/log/v1/log.proto",
    "hearth/client/v1/account.proto",
    "hearth/client/v1/chat.proto",
    "hearth/client/v1/client.proto",
    "hearth/directory/v1/directory.proto",
    "hearth/directory/v1/homes.proto",
    "hearth/directory/v1/names.proto",
    "hearth/directory/v1/raft.proto",
    "hearth/node/v1/node.proto",
    "hearth/node/v1/salvage.proto",
    "hearth/node/v1/rehoming.proto",
    "hearth/node/v1/canary.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let set = out.join("hearth.bin");
    fs::write(&set, prost::Message::encode_to_vec(&descriptors))?;
    let client = schemas::of_package(&descriptors, "hearth.client.v1", "client")?;
    fs::write(out.join("client-schemas.json"), client.to_string())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&fs::read(&set)?)?
        .ignore_unknown_fields()
        .build(&[".hearth.client.v1"])?;
    Ok(())
}
