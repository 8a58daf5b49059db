#![forbid(unsafe_code)]
//! The file that says where the members of Slurm's records lie in one build: written by `slurm-nvlink-confirm`, which
//! measures it on that very build, and read by the plugin.
//!
//! ```text
//! slurm-nvlink layout 1
//! slurm 26.05.5
//! build-id 03b303c2fa1141bf272910a18507eeecd7e4b0e7
//! job.magic 24
//! ...                                  one line for each member
//! checksum 0123456789abcdef            FNV-1a of all bytes before this line
//! ```
//! Lines that begin with `#` are for people. Anything that is not exactly so makes the whole file void: a layout that is
//! half right is worth less than none.

use std::fmt::{self, Write as _};

use super::layout::{Layout, MEMBERS};

/// Folder of the files; each is named by a build id.
pub const FOLDER: &str = "/var/lib/slurm-nvlink/layout";

/// More bytes than any such file has.
pub const LONGEST_FILE: usize = 16 * 1024;

/// First line: what the file is, and the version of its form.
const TITLE: &str = "slurm-nvlink layout 1";

const NOTE: &str = "# Where the members of Slurm's records lie in this build, in bytes from the start of each record.\n\
                    # Measured by slurm-nvlink-confirm on the installed files. Not to be edited: run it again instead.\n";

/// A measured layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Release of Slurm, as `slurm_version.h` numbers it.
    pub slurm: u32,
    /// GNU build id of `libslurmfull.so`.
    pub build_id: Vec<u8>,
    /// The offsets.
    pub layout: Layout,
}

/// Why a file is void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Void {
    /// It is too long or not text.
    NotText,
    /// It does not begin as such a file does.
    Title,
    /// Its last line is not a checksum: the end is missing.
    CutShort,
    /// The checksum is that of other bytes.
    Checksum,
    /// A line is not what belongs there.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What belongs there.
        expected: String,
    },
    /// It is for another build of Slurm.
    OtherBuild {
        /// The build id in the file.
        build_id: String,
    },
    /// It is for another release of Slurm.
    OtherRelease {
        /// The release in the file.
        slurm: String,
    },
    /// No build has such a layout.
    Implausible(String),
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => write!(f, "it is not a text of at most {LONGEST_FILE} bytes"),
            Self::Title => write!(f, "it does not begin with \"{TITLE}\""),
            Self::CutShort => write!(f, "its last line is not a checksum"),
            Self::Checksum => write!(f, "its checksum is wrong"),
            Self::Line { number, expected } => write!(f, "line {number} is not \"{expected}\""),
            Self::OtherBuild { build_id } => write!(f, "it is for build {build_id}"),
            Self::OtherRelease { slurm } => write!(f, "it is for Slurm {slurm}"),
            Self::Implausible(why) => write!(f, "no build has such a layout: {why}"),
        }
    }
}

impl std::error::Error for Void {}

impl Confirmation {
    /// The text of the file.
    pub fn render(&self) -> String {
        let mut text =
            format!("{TITLE}\n{NOTE}slurm {}\nbuild-id {}\n", release(self.slurm), hex(&self.build_id));
        for member in MEMBERS {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {}", member.name, (member.of)(&self.layout));
        }
        let checksum = checksum(text.as_bytes());
        let _ = writeln!(text, "checksum {checksum:016x}");
        text
    }

    /// Reads the text of a file that is to be for this release and build.
    ///
    /// # Errors
    /// Why the file is void.
    pub fn parse(text: &[u8], slurm: u32, build_id: &[u8]) -> Result<Self, Void> {
        if text.len() > LONGEST_FILE {
            return Err(Void::NotText);
        }
        let text = std::str::from_utf8(text).map_err(|_| Void::NotText)?;
        if text.lines().next() != Some(TITLE) {
            return Err(Void::Title);
        }
        let body = checked(text)?;
        let mut lines = (1..).zip(body.lines()).skip(1).filter(|(_, line)| !line.starts_with('#'));
        let mut value = |key: &str, what: &str| {
            let (number, line) = lines.next().unwrap_or((body.lines().count() + 1, ""));
            let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
            value
                .map(|value| (number, value))
                .ok_or_else(|| Void::Line { number, expected: format!("{key} {what}") })
        };
        let (_, found) = value("slurm", "RELEASE")?;
        if found != release(slurm) {
            return Err(Void::OtherRelease { slurm: found.to_owned() });
        }
        let (_, found) = value("build-id", "DIGITS")?;
        if found != hex(build_id) {
            return Err(Void::OtherBuild { build_id: found.to_owned() });
        }
        let mut layout = Layout::UNKNOWN;
        for member in MEMBERS {
            let (number, found) = value(member.name, "NUMBER")?;
            let offset = found.parse().ok().filter(|offset: &usize| offset.to_string() == found);
            *(member.of_mut)(&mut layout) =
                offset.ok_or_else(|| Void::Line { number, expected: format!("{} NUMBER", member.name) })?;
        }
        if let Some((number, _)) = lines.next() {
            return Err(Void::Line { number, expected: "checksum DIGITS".to_owned() });
        }
        match layout.implausible() {
            None => Ok(Self { slurm, build_id: build_id.to_vec(), layout }),
            Some(why) => Err(Void::Implausible(why)),
        }
    }
}

/// What stands before the checksum, when that is right.
fn checked(text: &str) -> Result<&str, Void> {
    let whole = text.strip_suffix('\n').ok_or(Void::CutShort)?;
    let start = whole.rfind('\n').map_or(0, |end| end + 1);
    let (body, last) = text.split_at(start);
    let found = last.trim_end_matches('\n').strip_prefix("checksum ").ok_or(Void::CutShort)?;
    if found == format!("{:016x}", checksum(body.as_bytes())) { Ok(body) } else { Err(Void::Checksum) }
}

/// FNV-1a with 64 bits: it finds accidents; against intent there are the file's owner and permissions.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `0x1a0505` as `26.05.5`.
pub fn release(version: u32) -> String {
    format!("{}.{:02}.{}", version >> 16 & 0xff, version >> 8 & 0xff, version & 0xff)
}

#[cfg(test)]
mod tests;
