#![forbid(unsafe_code)]
//! A plugin that says that it was built for another release of Slurm, made from ours.

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// The symbol in which Slurm looks for the release: major, minor and micro version, a byte each.
const SYMBOL: &str = "plugin_version";

/// The bytes of the same plugin with the next release in it.
///
/// # Errors
/// It is no plugin.
pub(super) fn of_another_release(plugin: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(plugin).context("the plugin is no library")?;
    let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(SYMBOL));
    let address = symbol.with_context(|| format!("the plugin has no {SYMBOL}"))?.address();
    let holds = |section: &object::Section<'_, '_>| {
        (section.address()..section.address() + section.size()).contains(&address)
    };
    let section = file.sections().find(holds).context("the symbol is in no section")?;
    let (begin, _) = section.file_range().context("the symbol is not in the file")?;
    let place = usize::try_from(begin + (address - section.address()))?;
    let mut bytes = plugin.to_owned();
    // Little-endian on both architectures: the micro version is the first byte.
    let micro = bytes.get_mut(place).context("the symbol is behind the end of the file")?;
    *micro = micro.wrapping_add(1);
    Ok(bytes)
}
