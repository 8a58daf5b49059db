//! The program `topology-gen`; everything is in the library.

fn main() -> std::process::ExitCode {
    topology_gen::main()
}
