//! Lets the host program show its symbols to the libraries that it loads, as slurmctld does.

fn main() {
    println!("cargo:rustc-link-arg-bin=lab-host=-rdynamic");
    println!("cargo:rerun-if-changed=build.rs");
}
