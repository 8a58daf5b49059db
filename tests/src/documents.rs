//! What the documents say to type: commands, settings, options. Everything of it is tried somewhere (see the cases
//! `documents::`), so the tests read it from the documents themselves.
#![forbid(unsafe_code)]

use crate::paths;
use anyhow::Context as _;
use std::fs;
use std::path::PathBuf;

/// Programs whose names begin a command.
const PROGRAMS: [&str; 19] = [
    "apt",
    "cargo",
    "cat",
    "imex-epilog",
    "imex-prolog",
    "install",
    "kill",
    "lab",
    "promtool",
    "rm",
    "sacct",
    "sbatch",
    "scontrol",
    "sed",
    "slurm-nvlink-confirm",
    "srun",
    "sysctl",
    "systemctl",
    "topology-gen",
];

/// The one of them that does something useful without any words behind it. The names of the others are only names.
const ALONE: &str = "slurm-nvlink-confirm";

/// Sections of the README whose blocks the stage `packages` types as they stand.
pub const PLAYED_SECTIONS: [&str; 4] =
    ["Install in five steps", "Upgrade", "Back to stock", "Remove everything"];

/// What else that stage types: commands and settings that need installed packages and a systemd.
pub const PLAYED: [&str; 11] = [
    "TopologyParam=nvlink_metrics=/run/slurmctld",
    "apt install --allow-downgrades ./*.deb",
    "apt install ./*.deb",
    "apt remove slurm-nvlink-plugin && systemctl restart slurmctld",
    "slurm-nvlink-confirm",
    "slurm-nvlink-confirm --help",
    "slurm-nvlink-confirm --plugins DIR --folder DIR --dry-run",
    "slurm-nvlink-confirm --version",
    "systemctl disable --now nvidia-imex",
    "systemctl enable --now topology-gen-watch",
    "systemctl reload topology-gen-watch",
];

/// A document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its path from the root of the workspace.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// How something stands in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// In a line of prose.
    Inline,
    /// Lines that are set in; each is one.
    Line,
    /// A line of a block of shell, with the word that says where it is typed.
    Shell(String),
}

/// Something in a document that is set as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The nearest heading above it.
    pub heading: String,
    /// It, without what stands behind a `#` for people.
    pub text: String,
    /// How it stands there.
    pub form: Form,
}

/// What a piece of code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be typed.
    Command,
    /// For a file of settings, or the environment.
    Setting,
    /// An option, with its value if it has one.
    Option,
    /// A name, a line that a program prints, a line of a script.
    Other,
}

/// The document of this name.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn named(name: &str) -> anyhow::Result<Document> {
    all()?.into_iter().find(|document| document.name == name).with_context(|| format!("no document {name}"))
}

/// All documents that are for users and developers, and the manual pages written by hand.
///
/// # Errors
/// One cannot be read.
pub fn all() -> anyhow::Result<Vec<Document>> {
    let root = paths::workspace();
    let mut files: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "slurm-plugin/DIFFERENCES.md"].map(PathBuf::from).into();
    for folder in ["docs", "packaging/man"] {
        let entries = fs::read_dir(root.join(folder)).with_context(|| format!("read {folder}"))?;
        for entry in entries {
            files.push(PathBuf::from(folder).join(entry?.file_name()));
        }
    }
    // Beside the documents lie their pictures.
    files.retain(|file| file.extension().is_none_or(|end| end != "svg"));
    files.sort();
    let read = |file: PathBuf| {
        let text =
            fs::read_to_string(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        Ok(Document { name: file.display().to_string(), text })
    };
    files.into_iter().map(read).collect()
}

impl Document {
    /// Whether it is a manual page.
    pub fn is_page(&self) -> bool {
        !self.name.ends_with(".md")
    }

    /// Everything in it that is set as code, in order; of a manual page, the commands of its synopsis.
    pub fn code(&self) -> Vec<Code> {
        if self.is_page() { page(&self.text) } else { markdown(&self.text) }
    }
}

impl Code {
    /// What it is for.
    pub fn kind(&self) -> Kind {
        kind(&self.text)
    }
}

/// Code in prose, in blocks of shell, and in lines that are set in. Blocks of another language are shown, not typed.
fn markdown(text: &str) -> Vec<Code> {
    let mut found = Vec::new();
    let (mut heading, mut paragraph) = (String::new(), String::new());
    let mut block: Option<Option<String>> = None;
    for line in text.lines() {
        let fence = line.strip_prefix("```");
        if fence.is_some()
            || block.is_some()
            || line.is_empty()
            || line.starts_with('#')
            || line.starts_with("    ")
        {
            inline(&mut paragraph, &heading, &mut found);
        }
        let mut push = |text: &str, form| {
            // What stands behind the sign is for people.
            let text = text.split(" #").next().unwrap_or(text).trim().to_owned();
            found.push(Code { heading: heading.clone(), text, form });
        };
        if let Some(language) = fence {
            let shell = || language.strip_prefix("sh").map(|place| place.trim().to_owned());
            block = if block.is_some() { None } else { Some(shell()) };
        } else if let Some(language) = &block {
            if let Some(place) = language {
                push(line, Form::Shell(place.clone()));
            }
        } else if let Some(line) = line.strip_prefix("    ") {
            push(line, Form::Line);
        } else if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        } else {
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    inline(&mut paragraph, &heading, &mut found);
    found
}

/// The code in a paragraph, which is empty then.
fn inline(paragraph: &mut String, heading: &str, found: &mut Vec<Code>) {
    let text = std::mem::take(paragraph);
    found.extend(text.split('`').skip(1).step_by(2).map(|code| Code {
        heading: heading.to_owned(),
        text: code.replace('\n', " "),
        form: Form::Inline,
    }));
}

/// The commands of a page's synopsis, and what it quotes. A choice (`-help | -version`) is one command for each.
fn page(text: &str) -> Vec<Code> {
    let (mut name, mut section) = ("", "");
    let mut found: Vec<Code> = Vec::new();
    // What stands behind the name, while a command of the synopsis is read.
    let mut command: Option<String> = None;
    for line in text.lines().chain([".Sh"]) {
        let (request, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut push = |text: String| {
            found.push(Code { heading: section.to_owned(), text, form: Form::Inline });
        };
        match (request, section) {
            (".Nm" | ".Sh", "SYNOPSIS") => {
                let read = command.replace(String::new()).unwrap_or_default();
                let choices = read.split(" | ").map(str::trim).filter(|choice| !choice.is_empty());
                choices.for_each(|choice| push(format!("{name} {choice}")));
            }
            (_, "SYNOPSIS") => command.get_or_insert_default().push_str(&words(line)),
            (".Nm", "NAME") => name = rest,
            (".Ql", _) => push(rest.to_owned()),
            _ => {}
        }
        if request == ".Sh" {
            section = rest;
        }
    }
    found
}

/// The words of a line of a synopsis, each with a space in front: `.Op Fl -folder Ar DIR` is ` --folder DIR`.
fn words(line: &str) -> String {
    let mut text = String::new();
    let mut flag = false;
    for word in line.trim_start_matches('.').split_whitespace() {
        match word {
            "Op" | "Cm" | "Ar" => flag = false,
            "Fl" => flag = true,
            "|" => text.push_str(" |"),
            _ if flag => text.push_str(&format!(" -{word}")),
            _ => text.push_str(&format!(" {word}")),
        }
    }
    text
}

/// What a piece of code is for, by how it begins.
pub fn kind(text: &str) -> Kind {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // `VARIABLE=value command`
    let is_variable = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| is_name(name) && name.to_uppercase() == name)
    };
    let command = words.iter().position(|word| !is_variable(word)).map_or(&[][..], |at| &words[at..]);
    match (command.first(), words.first()) {
        (Some(program), _) if PROGRAMS.contains(program) && (command.len() > 1 || *program == ALONE) => {
            Kind::Command
        }
        (_, Some(first)) if first.starts_with('-') && first.len() > 1 => Kind::Option,
        (_, Some(first))
            if words.len() == 1 && first.split_once('=').is_some_and(|(name, _)| is_name(name)) =>
        {
            Kind::Setting
        }
        (_, Some(first)) if words.len() == 3 && words[1] == "=" && is_name(first) => Kind::Setting,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str, text: &str) -> Vec<String> {
        let document = Document { name: name.to_owned(), text: text.to_owned() };
        document.code().into_iter().map(|code| code.text).collect()
    }

    #[test]
    fn code_is_found_in_prose_in_shell_and_in_lines_that_are_set_in() {
        let text = "# A\na `b\nc` d\n\n## B\n```sh trays\ne # for people\n```\n```\ng `\n```\n    f\n";
        assert_eq!(texts("x.md", text), ["b c", "e", "f"]);
        let document = Document { name: "x.md".to_owned(), text: text.to_owned() };
        let code = document.code();
        assert_eq!((code[0].heading.as_str(), &code[0].form), ("A", &Form::Inline));
        assert_eq!((code[1].heading.as_str(), &code[1].form), ("B", &Form::Shell("trays".to_owned())));
        assert_eq!(code[2].form, Form::Line);
    }

    #[test]
    fn a_page_says_its_commands_in_its_synopsis() {
        let text = ".Sh NAME\n.Nm p\n.Sh SYNOPSIS\n.Nm\n.Nm\n.Cm status\n.Op Fl -json\n.Nm\n.Op Fl -folder Ar DIR\n\
                    .Nm\n.Fl -help | -version\n.Sh DESCRIPTION\n.Nm\nis\n.Ql p check\n";
        assert_eq!(
            texts("p.8", text),
            ["p status --json", "p --folder DIR", "p --help", "p --version", "p check"]
        );
    }

    #[test]
    fn code_is_a_command_a_setting_an_option_or_something_else() {
        for (text, wanted) in [
            ("topology-gen show", Kind::Command),
            ("topology-gen", Kind::Other),
            ("slurm-nvlink-confirm", Kind::Command),
            ("SLURM_NVLINK_INCLUDE=/usr/include cargo xtask build", Kind::Command),
            ("SLURM_NVLINK_SIZES=all", Kind::Setting),
            ("TopologyParam=nvlink_metrics=/run/slurmctld", Kind::Setting),
            ("policy = \"by-job\"", Kind::Setting),
            ("--svg FILE", Kind::Option),
            ("-w", Kind::Option),
            ("topology.yaml", Kind::Other),
            ("reason=$(x) || y", Kind::Other),
        ] {
            assert_eq!(kind(text), wanted, "{text}");
        }
    }

    #[test]
    fn all_documents_are_read() {
        let all = all().unwrap();
        assert!(all.len() >= 10 && all.iter().any(Document::is_page), "{all:?}");
        assert!(
            all.iter().flat_map(Document::code).filter(|code| code.kind() == Kind::Command).count() > 100
        );
    }
}
