//! Compiles `proto/` with protox, so that no machine needs a protoc, and keeps
//! the descriptor set for server reflection and for the JSON and YAML forms.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        [
            "lineman/v1/device.proto",
            "lineman/v1/device_service.proto",
            "lineman/v1/console_service.proto",
        ],
        ["proto"],
    )?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("lineman.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
