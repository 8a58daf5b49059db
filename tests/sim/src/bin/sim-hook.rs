//! Stands between slurmd and `imex-prolog` or `imex-epilog`; see [`sim::hook`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sim::hook::main()
}
