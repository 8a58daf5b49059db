#![forbid(unsafe_code)]
//! Writes a confirmation in one step, and reads it back as the plugin will.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use topology_block::abi::confirmation::Confirmation;
use topology_block::host::confirmed::{self, Unconfirmed};

/// Why the file was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// A step failed.
    Write { file: PathBuf, source: io::Error },
    /// The plugin would not take the file.
    Refused(Unconfirmed),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, source } => {
                let hint = match source.kind() {
                    io::ErrorKind::PermissionDenied => " (root may)",
                    _ => "",
                };
                write!(f, "{} cannot be written: {source}{hint}", file.display())
            }
            Self::Refused(why) => write!(f, "the plugin would not take what was written: {why}"),
        }
    }
}

/// Puts the confirmation into its place in the folder, which is made if need be.
pub(crate) fn write(folder: &Path, confirmation: &Confirmation) -> Result<PathBuf, WriteError> {
    let place = confirmed::place(folder, &confirmation.build_id);
    let failed = |source| WriteError::Write { file: place.clone(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    let beside = place.with_extension(format!("new-{}", std::process::id()));
    let written =
        write_all(&beside, confirmation.render().as_bytes()).and_then(|()| fs::rename(&beside, &place));
    if let Err(source) = written {
        // It may not have come into being.
        let _ = fs::remove_file(&beside);
        return Err(failed(source));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let owner = fs::metadata("/proc/self").map_err(failed)?.uid();
    let (place, _) = confirmed::load(folder, owner, &confirmation.build_id).map_err(WriteError::Refused)?;
    Ok(place)
}

fn write_all(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology_block::abi::SLURM_VERSION_NUMBER;
    use topology_block::abi::layout::{Layout, MEMBERS};

    fn sample() -> Confirmation {
        let mut layout = Layout::UNKNOWN;
        for (position, member) in MEMBERS.iter().enumerate() {
            *(member.of_mut)(&mut layout) = 8 * position;
        }
        Confirmation { slurm: SLURM_VERSION_NUMBER, build_id: vec![1, 2], layout }
    }

    #[test]
    fn it_is_written_whole_and_again_in_its_place() {
        let folder = std::env::temp_dir().join(format!("slurm-nvlink-write-{}", std::process::id()));
        let inner = folder.join("a/b");
        for _ in 0..2 {
            let place = write(&inner, &sample()).unwrap();
            assert_eq!(place, inner.join("0102"));
            assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "nothing is left beside it");
        fs::write(folder.join("c"), "").unwrap();
        let why = write(&folder.join("c"), &sample()).unwrap_err().to_string();
        assert!(why.contains("c/0102 cannot be written: "), "{why}");
        fs::remove_dir_all(folder).unwrap();
    }
}
