//! Simulated `nvidia-imex`; see [`sim::daemon`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sim::daemon::main(std::env::args_os().skip(1))
}
