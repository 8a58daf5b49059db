//! `topology.conf`, which has one topology without a name, to and from `topology.yaml`.
#![forbid(unsafe_code)]

use fabric::topology::{Block, BlockTopology, Body, OtherTopology};
use fabric::{BlockName, BlockSizes, HostList, Topology, TopologyKind};

/// Why something cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A line that is neither a block nor a switch.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// In words.
        what: String,
    },
    /// A topology that topology.conf cannot say.
    #[error("topology.conf cannot say a topology of kind {kind}")]
    Kind {
        /// Which.
        kind: String,
    },
    /// Nothing in it.
    #[error("no block and no switch in it")]
    Empty,
}

/// What a `topology.conf` holds.
#[derive(Default)]
struct Conf {
    sizes: Option<BlockSizes>,
    blocks: Vec<Block>,
    switches: Vec<Body>,
}

/// Reads topology.conf; the topology gets the name.
///
/// # Errors
/// [`ConvertError`].
pub fn from_conf(text: &str, name: &str) -> Result<Topology, ConvertError> {
    let mut conf = Conf::default();
    for (line, words) in (1..).zip(text.lines()) {
        let words = words.split('#').next().unwrap_or_default().trim();
        if !words.is_empty() {
            conf.take(words).map_err(|what| ConvertError::Line { line, what })?;
        }
    }
    let kind = match (conf.blocks.is_empty(), conf.switches.is_empty()) {
        (true, true) => return Err(ConvertError::Empty),
        (false, false) => {
            return Err(ConvertError::Line { line: 1, what: "both blocks and switches".to_owned() });
        }
        (false, true) => TopologyKind::Block(BlockTopology { sizes: conf.sizes, blocks: conf.blocks }),
        (true, false) => {
            let body = Body::Map(vec![("switches".to_owned(), Body::List(conf.switches))]);
            TopologyKind::Other(OtherTopology { kind: "tree".to_owned(), body })
        }
    };
    Ok(Topology { name: name.to_owned(), cluster_default: true, kind })
}

impl Conf {
    fn take(&mut self, words: &str) -> Result<(), String> {
        let mut pairs = Vec::new();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is no KEY=VALUE"))?;
            pairs.push((key.to_ascii_lowercase(), value.trim_matches('"').to_owned()));
        }
        let get = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        if let Some(sizes) = get("blocksizes") {
            let numbers: Result<Vec<u32>, _> = sizes.split(',').map(str::parse).collect();
            let numbers = numbers.map_err(|_| format!("BlockSizes={sizes} is no list of numbers"))?;
            self.sizes = Some(BlockSizes::new(numbers).map_err(|error| error.to_string())?);
        } else if let Some(name) = get("blockname") {
            let nodes =
                HostList::parse(get("nodes").unwrap_or_default()).map_err(|error| error.to_string())?;
            let name = BlockName::new(name).map_err(|error| error.to_string())?;
            self.blocks.push(Block { name, nodes });
        } else if let Some(name) = get("switchname") {
            let mut body = vec![("switch".to_owned(), Body::Text(name.to_owned()))];
            let more = [("switches", "children"), ("nodes", "nodes")];
            body.extend(
                more.iter()
                    .filter_map(|(from, to)| Some(((*to).to_owned(), Body::Text(get(from)?.to_owned())))),
            );
            self.switches.push(Body::Map(body));
        } else {
            return Err("neither BlockName, BlockSizes nor SwitchName".to_owned());
        }
        Ok(())
    }
}

/// Writes a topology as topology.conf, which has no place for its name.
///
/// # Errors
/// [`ConvertError::Kind`] for all kinds but block and tree.
pub fn to_conf(topology: &Topology) -> Result<String, ConvertError> {
    let mut text = String::from("# topology.conf for Slurm, written by slurm-nvlink's topology-gen\n");
    match &topology.kind {
        TopologyKind::Block(block) => {
            for Block { name, nodes } in &block.blocks {
                let nodes = if nodes.is_empty() { String::new() } else { format!(" Nodes={nodes}") };
                text.push_str(&format!("BlockName={name}{nodes}\n"));
            }
            if let Some(sizes) = &block.sizes {
                let sizes: Vec<String> = sizes.as_slice().iter().map(u32::to_string).collect();
                text.push_str(&format!("BlockSizes={}\n", sizes.join(",")));
            }
        }
        TopologyKind::Other(OtherTopology { kind, body }) if kind == "tree" => {
            let Body::Map(entries) = body else { return Err(ConvertError::Kind { kind: kind.clone() }) };
            for switch in entries.iter().flat_map(|(_, list)| items(list)) {
                let Body::Map(entries) = switch else { continue };
                let words = entries.iter().filter_map(|(key, value)| match (key.as_str(), value) {
                    ("switch", Body::Text(value)) => Some(format!("SwitchName={value}")),
                    ("children", Body::Text(value)) if !value.is_empty() => Some(format!("Switches={value}")),
                    ("nodes", Body::Text(value)) if !value.is_empty() => Some(format!("Nodes={value}")),
                    _ => None,
                });
                text.push_str(&(words.collect::<Vec<_>>().join(" ") + "\n"));
            }
        }
        TopologyKind::Flat => return Err(ConvertError::Kind { kind: "flat".to_owned() }),
        TopologyKind::Other(other) => return Err(ConvertError::Kind { kind: other.kind.clone() }),
    }
    Ok(text)
}

fn items(body: &Body) -> &[Body] {
    match body {
        Body::List(items) => items,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        for conf in [
            "BlockName=a Nodes=n[1-4]\nBlockName=gone\nBlockName=b Nodes=n[5-8]\nBlockSizes=4,8\n",
            "SwitchName=s1 Nodes=n[1-2]\nSwitchName=s0 Switches=s1\n",
        ] {
            let topology = from_conf(conf, "t").unwrap();
            let yaml = fabric::slurm_yaml::emit(std::slice::from_ref(&topology));
            assert_eq!(fabric::slurm_yaml::parse(&yaml).unwrap(), std::slice::from_ref(&topology));
            assert_eq!(to_conf(&topology).unwrap().split_once('\n').unwrap().1, conf);
        }
    }

    #[test]
    fn what_cannot_be_converted_is_told() {
        for (text, words) in [
            ("", "no block and no switch in it"),
            ("\nBlockName=a,b", "line 2: name \"a,b\" holds ',', which cannot be part of a name"),
            (
                "BlockSizes=4,12",
                "line 1: block size 12 is not the base size 4 times a power of two up to 2^15",
            ),
            ("Nodes=n1", "line 1: neither BlockName, BlockSizes nor SwitchName"),
            ("BlockName", "line 1: \"BlockName\" is no KEY=VALUE"),
        ] {
            assert_eq!(from_conf(text, "t").unwrap_err().to_string(), words);
        }
        let flat = fabric::slurm_yaml::parse("flat: true").unwrap().remove(0);
        assert_eq!(
            to_conf(&flat).unwrap_err().to_string(),
            "topology.conf cannot say a topology of kind flat"
        );
    }
}
