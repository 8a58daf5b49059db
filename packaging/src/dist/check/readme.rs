#![forbid(unsafe_code)]
//! The commands of the README, as they stand there.
//!
//! A block of commands begins with three backquotes, `sh` and the word that says where they are typed:
//!
//! ````text
//! ```sh trays
//! systemctl restart slurmd
//! ```
//! ````

use anyhow::{Result, bail};

/// Where a block of commands is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the controller, all trays, all login nodes.
    Everywhere,
    /// On the host of slurmctld.
    Controller,
    /// On every tray.
    Trays,
}

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) place: Place,
    /// Its lines, for a shell.
    pub(super) lines: &'a str,
}

/// The blocks below the heading `## title`, in order.
///
/// # Errors
/// There is no such heading, it has no blocks, or one of them does not say where it is typed.
pub(super) fn blocks<'a>(text: &'a str, title: &str) -> Result<Vec<Block<'a>>> {
    let Some((_, section)) = text.split_once(&format!("\n## {title}\n")) else {
        bail!("no heading {title:?}");
    };
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut parts = section.split("\n```");
    parts.next();
    // Blocks and the prose behind them take turns.
    while let Some(part) = parts.next() {
        let Some((head, lines)) = part.split_once('\n') else { bail!("{title}: a block has no lines") };
        let place = match head.strip_prefix("sh ") {
            Some("everywhere") => Place::Everywhere,
            Some("controller") => Place::Controller,
            Some("trays") => Place::Trays,
            _ => bail!("{title}: the block {head:?} does not say where it is typed"),
        };
        blocks.push(Block { place, lines });
        if parts.next().is_none() {
            bail!("{title}: a block does not end");
        }
    }
    if blocks.is_empty() {
        bail!("{title}: there are no commands");
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a\n\n## b\n\n```sh trays\none\ntwo\n```\nprose\n\n```sh controller\nthree\n```\n\n## c\n\n```sh\nfour\n```\n";

    #[test]
    fn blocks_are_those_of_the_heading_with_their_places() {
        let found = blocks(TEXT, "b").unwrap();
        assert_eq!(
            found,
            [
                Block { place: Place::Trays, lines: "one\ntwo" },
                Block { place: Place::Controller, lines: "three" }
            ]
        );
    }

    #[test]
    fn what_cannot_be_typed_is_refused() {
        assert_eq!(blocks(TEXT, "d").unwrap_err().to_string(), "no heading \"d\"");
        assert!(blocks(TEXT, "c").unwrap_err().to_string().contains("where it is typed"));
        assert!(blocks("\n## e\nx\n", "e").unwrap_err().to_string().contains("no commands"));
    }

    #[test]
    fn the_readme_has_all_that_is_typed() {
        let readme = include_str!("../../../../README.md");
        for title in super::super::SECTIONS {
            blocks(readme, title).unwrap();
        }
    }
}
