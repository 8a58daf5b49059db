//! Writes the man pages and the shell completions into a folder: those that topology-gen describes itself, the page of the
//! settings file from its example, and those that are written by hand.

#![forbid(unsafe_code)]

mod settings;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: pages FOLDER")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let page = folder.join("topology-gen.1");
    fs::write(&page, page_of(&topology_gen::cli::command())?)
        .with_context(|| format!("write {}", page.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut topology_gen::cli::command(), "topology-gen", folder)
            .with_context(|| format!("completions for {shell}"))?;
    }
    by_hand(folder)
}

/// The pages in `packaging/man`, with the settings where one wants them.
fn by_hand(folder: &Path) -> Result<()> {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no folder above this one")?;
    let example = packaging.join("examples/imex.toml");
    let example = fs::read_to_string(&example).with_context(|| format!("read {}", example.display()))?;
    let pages = packaging.join("man");
    for entry in fs::read_dir(&pages).with_context(|| format!("read {}", pages.display()))? {
        let page = entry?.path();
        let text = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
        let text = text.replace("@SETTINGS@\n", &settings::list(&example));
        fs::write(folder.join(page.file_name().context("a page has no name")?), text)
            .with_context(|| format!("write {}", page.display()))?;
    }
    Ok(())
}

/// One page for the program and all its commands.
fn page_of(command: &clap::Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut text)?;
    whole.render_name_section(&mut text)?;
    whole.render_synopsis_section(&mut text)?;
    whole.render_description_section(&mut text)?;
    whole.render_options_section(&mut text)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        text.extend_from_slice(format!(".SH {}\n", sub.get_name().to_uppercase()).as_bytes());
        section(sub, &mut text)?;
    }
    whole.render_extra_section(&mut text)?;
    Ok(text)
}

/// What a page of its own would say of a command, below one heading.
fn section(command: &clap::Command, text: &mut Vec<u8>) -> Result<()> {
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut parts)?;
    }
    // Sections become sub-sections, and the letters that a page begins with are there already.
    for line in String::from_utf8(parts)?
        .lines()
        .filter(|line| !line.starts_with(".ie ") && !line.starts_with(".el "))
    {
        let line = line.strip_prefix(".SH ").map_or_else(|| line.to_owned(), |rest| format!(".SS {rest}"));
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_part_of_the_page() {
        let command = topology_gen::cli::command();
        let page = String::from_utf8(page_of(&command).unwrap()).unwrap();
        for sub in command.get_subcommands() {
            assert!(page.contains(&format!(".SH {}\n", sub.get_name().to_uppercase())), "{}", sub.get_name());
        }
        assert_eq!(page.matches(".TH ").count(), 1);
    }
}
