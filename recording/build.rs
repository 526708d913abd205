//! Compiles `proto/olk.proto` with `protox`, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/olk.proto");
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    let files = protox::compile(["olk.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}
