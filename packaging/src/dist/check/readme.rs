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

use ::tests::documents::{Document, Form};
use anyhow::{Result, bail, ensure};

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

/// Commands that are typed one after the other at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) place: Place,
    /// Its lines, for a shell.
    pub(super) lines: String,
}

/// The blocks below the heading `title`, in order.
///
/// # Errors
/// There are none, or one of them does not say where it is typed.
pub(super) fn blocks(document: &Document, title: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    for code in document.code().into_iter().filter(|code| code.heading == title) {
        let place = match &code.form {
            Form::Shell(place) => match place.as_str() {
                "everywhere" => Place::Everywhere,
                "controller" => Place::Controller,
                "trays" => Place::Trays,
                _ => bail!("{title}: {:?} does not say where it is typed", code.text),
            },
            Form::Inline | Form::Line => continue,
        };
        match blocks.last_mut().filter(|block| block.place == place) {
            Some(block) => block.lines.push_str(&format!("\n{}", code.text)),
            None => blocks.push(Block { place, lines: code.text }),
        }
    }
    ensure!(!blocks.is_empty(), "{}: no commands below {title:?}", document.name);
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a\n\n## b\n\n```sh trays\none\ntwo\n```\nprose\n\n```sh controller\nthree\n```\n\n## c\n\n```sh\nfour\n```\n";

    fn document() -> Document {
        Document { name: "x.md".to_owned(), text: TEXT.to_owned() }
    }

    #[test]
    fn blocks_are_those_of_the_heading_with_their_places() {
        let found = blocks(&document(), "b").unwrap();
        assert_eq!(
            found,
            [
                Block { place: Place::Trays, lines: "one\ntwo".to_owned() },
                Block { place: Place::Controller, lines: "three".to_owned() }
            ]
        );
    }

    #[test]
    fn what_cannot_be_typed_is_refused() {
        assert!(blocks(&document(), "d").unwrap_err().to_string().contains("no commands below \"d\""));
        assert!(blocks(&document(), "c").unwrap_err().to_string().contains("where it is typed"));
    }

    #[test]
    fn the_readme_has_all_that_is_typed() {
        let readme = ::tests::documents::named("README.md").unwrap();
        for title in ::tests::documents::PLAYED_SECTIONS {
            blocks(&readme, title).unwrap();
        }
    }
}
