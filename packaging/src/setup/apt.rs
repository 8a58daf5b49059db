//! Packages through the machine's own apt configuration.

#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Installs `packages` without recommendations. The package index is fetched only when the first try fails, which is
/// what an empty or an outdated index leads to.
///
/// # Errors
/// When there is no apt-get, or both tries fail; the end of apt's own output is in the message.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    println!("setup: apt-get install {}", packages.join(" "));
    let arguments: Vec<&str> =
        ["install", "--yes", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect();
    if apt_get(&arguments).is_ok() {
        return Ok(());
    }
    println!("setup: apt-get update, then once more");
    // An index that cannot be fetched in part (a broken extra source) may still hold what we need.
    let update = apt_get(&["update"]);
    match (apt_get(&arguments), update) {
        (Ok(()), _) => Ok(()),
        (Err(install), Err(update)) => bail!("{install:#}\nand before that {update:#}"),
        (Err(install), Ok(())) => Err(install),
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120", "--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("run apt-get (this command installs packages on Debian only)")?;
    ensure!(
        output.status.success(),
        "apt-get {} failed ({}):\n{}",
        arguments.first().copied().unwrap_or_default(),
        output.status,
        tail(&[&output.stdout[..], &output.stderr[..]].concat(), 12)
    );
    Ok(())
}

fn tail(output: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_is_the_last_lines_that_say_something() {
        assert_eq!(tail(b"a\n\nb\n \nc\n", 2), "b\nc");
        assert_eq!(tail(b"", 2), "");
    }
}
