//! The man page of a settings file, from the annotated example of it: what the example says is what the page says.
//!
//! In the example a comment stands above the keys that it is about; a table's comment stands above its name.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// The part of an mdoc page that lists all settings.
pub(crate) fn list(example: &str) -> String {
    let mut text = String::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    let mut in_list = false;
    // Writing to a String cannot fail.
    for line in example.lines().chain([""]) {
        let words = line.strip_prefix('#').map(str::trim);
        // A key that has no default stands in the example as a comment.
        let key = words.map_or(line.contains(" = ").then_some(line), |words| is_key(words).then_some(words));
        if let Some(key) = key {
            keys.push(key);
            continue;
        }
        // What follows is about something else.
        if !keys.is_empty() {
            if !in_list {
                text.push_str(".Bl -tag -width Ds\n");
                in_list = true;
            }
            for key in keys.drain(..) {
                let _ = writeln!(text, ".It Li {}", plain(key));
            }
            paragraph(&mut text, &mut comment);
        }
        if let Some(words) = words {
            comment.push(words);
        } else if let Some(table) = line.strip_prefix('[') {
            if in_list {
                text.push_str(".El\n");
                in_list = false;
            }
            let _ = writeln!(text, ".Ss [{table}");
            paragraph(&mut text, &mut comment);
        } else {
            // The head of the file, which is for its readers.
            comment.clear();
        }
    }
    if in_list {
        text.push_str(".El\n");
    }
    text
}

/// `directory = "/x"`, but not a sentence.
fn is_key(words: &str) -> bool {
    let Some((name, value)) = words.split_once(" = ") else { return false };
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !value.is_empty()
}

/// Comment lines as text: a sentence begins a line, as mdoc wants it.
fn paragraph(text: &mut String, lines: &mut Vec<&str>) {
    let words = std::mem::take(lines).join(" ");
    for sentence in words.split_inclusive(". ") {
        let sentence = sentence.trim();
        if !sentence.is_empty() {
            let _ = writeln!(text, "{}", plain(sentence));
        }
    }
}

/// Text in which roff finds nothing to do.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('"', "\\(dq").replace('`', "\\(ga").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_the_words_of_their_keys() {
        let text = list(
            "# The file.\n\n# How. Or \"so\".\nmode = \"a\"\n# One; two.\n# Three.\nx = 1\ny = 2\n\n# A table.\n[t]\n# None.\n# z = 3\n",
        );
        assert_eq!(
            text,
            ".Bl -tag -width Ds\n.It Li mode = \\(dqa\\(dq\nHow.\nOr \\(dqso\\(dq.\n.It Li x = 1\n.It Li y = 2\n\
             One; two.\nThree.\n.El\n.Ss [t]\nA table.\n.Bl -tag -width Ds\n.It Li z = 3\nNone.\n.El\n"
        );
    }

    #[test]
    fn every_setting_of_the_example_is_in_the_page() {
        let example = include_str!("../../examples/imex.toml");
        let page = list(example);
        for line in example.lines().filter(|line| !line.starts_with('#')) {
            let Some((key, _)) = line.split_once(" = ") else { continue };
            assert!(page.contains(&format!(".It Li {key} = ")), "{key} is not in\n{page}");
        }
        for table in example.lines().filter(|line| line.starts_with('[')) {
            assert!(page.contains(&format!(".Ss {table}\n")), "{table}");
        }
    }
}
