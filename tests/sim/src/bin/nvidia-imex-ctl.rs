//! Simulated `nvidia-imex-ctl`; see [`sim::ctl`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sim::ctl::main(std::env::args_os().skip(1))
}
