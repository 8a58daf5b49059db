//! Prolog and epilog against the simulated `nvidia-imex` and `nvidia-imex-ctl`, in a network namespace with nothing but a
//! loopback interface.
//!
//! Each run of a hook is a process of its own: this program, started again with `--hook`. Needs root, for the
//! namespace and for device files.

mod cases;
mod guests;
mod hostile;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, hook, root, node, job] = arguments.as_slice()
        && flag == site::HOOK_FLAG
    {
        return site::run_hook(hook, root.as_ref(), node, job);
    }
    if let [flag, root, words @ ..] = arguments.as_slice()
        && flag == site::HELPER_FLAG
    {
        return site::run_helper(root.as_ref(), words);
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && let Err(error) = site::enter_network() {
        eprintln!("cannot make a network namespace: {error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, cases::all(is_root)).exit_code()
}
