//! slurmd's Prolog; everything is in the library.
fn main() -> std::process::ExitCode {
    imex_prolog::cli::main(imex_prolog::run::Hook::Prolog)
}
