//! The plugin's own build script, in the plugin's folder.

use std::process::ExitCode;

#[path = "../../slurm-plugin/build.rs"]
mod plugin;

fn main() -> ExitCode {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../slurm-plugin");
    if let Err(error) = std::env::set_current_dir(folder) {
        eprintln!("planted: {folder}: {error}");
        return ExitCode::FAILURE;
    }
    plugin::main()
}
