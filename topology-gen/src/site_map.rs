//! The site map: which rack is called what and stands where, from a CSV file that the site keeps.
//!
//! ```text
//! block,domain,clique,nodes,row,hall
//! rack01,3c9b1e52-6f0a-4d7e-8b31-5a2f9c0d4e61,,,row1,hall1
//! rack02,,,"r02n[01-18]",row1,hall1
//! rack03,,,,row1,hall1
//! ```
//!
//! The header names the columns in any order; only `block` must be there. A line with a domain stands for that NVLink domain
//! (with a clique: for that partition of it), one without for the partition that most trays of `nodes` form, one with neither
//! keeps a place for a rack that is yet to come. The order of the lines is the order of the blocks.
#![forbid(unsafe_code)]

mod arrange;

use std::collections::BTreeMap;

use fabric::{BlockName, DomainId, FabricId, HostList, NodeName, PartitionId};

/// Why a site map cannot be used. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteMapError {
    /// Nothing but comments.
    #[error("no header line; it begins with the names of the columns: block,domain,clique,nodes,row,hall")]
    Empty,
    /// A column that means nothing, or twice.
    #[error("line {line}: column {name:?} is unknown or comes twice; known are {COLUMNS:?}")]
    Column {
        /// Where.
        line: usize,
        /// Its name.
        name: String,
    },
    /// The header has no column for the names.
    #[error("line {line}: there is no column \"block\"")]
    NoBlocks {
        /// Where.
        line: usize,
    },
    /// Another number of fields than the header has.
    #[error("line {line}: {found} fields, the header has {wanted}")]
    Fields {
        /// Where.
        line: usize,
        /// How many.
        found: usize,
        /// In the header.
        wanted: usize,
    },
    /// A field that says nothing.
    #[error("line {line}: {column}: {what}")]
    Field {
        /// Where.
        line: usize,
        /// Which.
        column: &'static str,
        /// In words.
        what: String,
    },
    /// Two lines for the same.
    #[error("line {line}: {what} comes twice, first in line {first}")]
    Twice {
        /// Where.
        line: usize,
        /// What.
        what: String,
        /// Where first.
        first: usize,
    },
}

const COLUMNS: [&str; 6] = ["block", "domain", "clique", "nodes", "row", "hall"];

/// One line of the map: a place for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Name of the block.
    pub name: BlockName,
    /// The NVLink domain.
    pub domain: Option<DomainId>,
    /// The NVLink partition in it; without it the first of the domain.
    pub partition: Option<PartitionId>,
    /// Its trays.
    pub nodes: HostList,
    /// The row it stands in; may be empty.
    pub row: String,
    /// The hall it stands in; may be empty.
    pub hall: String,
}

/// The map: seats in the order of the file, those of a row and of a hall together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteMap {
    /// Its lines, with places kept free so that each row, and each hall, is one aggregated block.
    pub seats: Vec<Seat>,
    /// Seats of a row and of a hall, as far as there are several of them: the aggregated sizes as multiples of the base.
    pub levels: Vec<u32>,
}

/// Reads a site map.
///
/// # Errors
/// [`SiteMapError`], the first one of the file.
pub fn parse(text: &str) -> Result<SiteMap, SiteMapError> {
    let mut lines = (1..)
        .zip(text.lines())
        .map(|(line, text)| (line, text.trim()))
        .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
    let (line, header) = lines.next().ok_or(SiteMapError::Empty)?;
    let columns = columns(line, header)?;
    let mut seats = Vec::new();
    let mut seen = Seen::default();
    for (line, text) in lines {
        let fields = fields(text);
        if fields.len() != columns.len() {
            return Err(SiteMapError::Fields { line, found: fields.len(), wanted: columns.len() });
        }
        let row: BTreeMap<&str, &str> =
            columns.iter().copied().zip(fields.iter().map(String::as_str)).collect();
        let seat = seat(line, &row)?;
        seen.add(line, &seat)?;
        seats.push(seat);
    }
    let map = arrange::arranged(seats);
    let mut names = std::collections::BTreeSet::new();
    match map.seats.iter().find(|seat| !names.insert(&seat.name)) {
        None => Ok(map),
        Some(seat) => {
            let line = seen.names.get(&seat.name).copied().unwrap_or(0);
            let what = format!("{} is also the name of a place that is kept free", seat.name);
            Err(SiteMapError::Field { line, column: "block", what })
        }
    }
}

fn columns(line: usize, header: &str) -> Result<Vec<&'static str>, SiteMapError> {
    let mut columns = Vec::new();
    for name in fields(header) {
        let plain = name.to_ascii_lowercase();
        match COLUMNS.iter().find(|known| **known == plain) {
            Some(known) if !columns.contains(known) => columns.push(*known),
            _ => return Err(SiteMapError::Column { line, name }),
        }
    }
    if columns.contains(&"block") { Ok(columns) } else { Err(SiteMapError::NoBlocks { line }) }
}

/// The fields of a line. A field in double quotes may hold commas; two double quotes in it are one.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut signs = line.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => field.extend(signs.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            sign => field.push(sign),
        }
    }
    fields.push(field.trim().to_owned());
    fields
}

fn seat(line: usize, row: &BTreeMap<&str, &str>) -> Result<Seat, SiteMapError> {
    let text = |column: &str| row.get(column).copied().unwrap_or_default();
    let some = |column: &str| Some(text(column)).filter(|text| !text.is_empty());
    let fault = |column: &'static str, what: String| SiteMapError::Field { line, column, what };
    let name = BlockName::new(text("block")).map_err(|error| fault("block", error.to_string()))?;
    let domain = some("domain").map(str::parse::<DomainId>).transpose();
    let domain = domain.map_err(|error| fault("domain", error.to_string()))?;
    if domain.is_some_and(|domain| domain.is_zero()) {
        return Err(fault("domain", "all zero means that there is no multi-node NVLink".to_owned()));
    }
    let partition = some("clique").map(|text| text.parse().map(PartitionId)).transpose();
    let partition =
        partition.map_err(|_| fault("clique", format!("{:?} is no number of 32 bits", text("clique"))))?;
    if partition.is_some() && domain.is_none() {
        return Err(fault("clique", "a clique says nothing without its domain".to_owned()));
    }
    let nodes = HostList::parse(text("nodes")).map_err(|error| fault("nodes", error.to_string()))?;
    for column in ["row", "hall"] {
        // It becomes part of the names of places that are kept free.
        if let Some(Err(error)) = some(column).map(BlockName::new) {
            return Err(fault(if column == "row" { "row" } else { "hall" }, error.to_string()));
        }
    }
    Ok(Seat { name, domain, partition, nodes, row: text("row").to_owned(), hall: text("hall").to_owned() })
}

/// What must not come twice, with the line of the first.
#[derive(Default)]
struct Seen {
    names: BTreeMap<BlockName, usize>,
    partitions: BTreeMap<(DomainId, Option<PartitionId>), usize>,
    nodes: BTreeMap<NodeName, usize>,
}

impl Seen {
    fn add(&mut self, line: usize, seat: &Seat) -> Result<(), SiteMapError> {
        let twice = |what: String, first| SiteMapError::Twice { line, what, first };
        if let Some(first) = self.names.insert(seat.name.clone(), line) {
            return Err(twice(format!("block {}", seat.name), first));
        }
        if let Some(domain) = seat.domain
            && let Some(first) = self.partitions.insert((domain, seat.partition), line)
        {
            return Err(twice(format!("domain {domain}"), first));
        }
        for node in &seat.nodes {
            if let Some(first) = self.nodes.insert(node.clone(), line) {
                return Err(twice(format!("node {node}"), first));
            }
        }
        Ok(())
    }
}

impl Seat {
    /// How well a partition with these nodes suits: 3 by domain and clique, 2 by domain, 1 by nodes; `None` not at all.
    pub fn suits(&self, id: &FabricId, nodes: &[NodeName]) -> Option<u8> {
        match (self.domain, self.partition) {
            (Some(domain), Some(partition)) => {
                (domain == id.domain && partition == id.partition).then_some(3)
            }
            (Some(domain), None) => (domain == id.domain).then_some(2),
            (None, _) => {
                let known: std::collections::BTreeSet<&NodeName> = self.nodes.iter().collect();
                let here = nodes.iter().filter(|node| known.contains(node)).count();
                (here * 2 > nodes.len()).then_some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "aaaaaaaa-1111-4222-8333-444444444444";

    fn names(map: &SiteMap) -> Vec<&str> {
        map.seats.iter().map(|seat| seat.name.as_str()).collect()
    }

    #[test]
    fn lines_become_seats_in_their_order() {
        let map = parse(&format!(
            "# our racks\r\n\r\nNodes, block,domain,clique\r\n,rack1,{A},\r\n\"n[1-2,4]\",rack2,,\n,rack3,{A},7\n,later,,\n"
        ))
        .unwrap();
        assert_eq!((names(&map), map.levels.as_slice()), (vec!["rack1", "rack2", "rack3", "later"], &[][..]));
        assert_eq!(map.seats[1].nodes.len(), 3);
        let id: FabricId = format!("{A}.7").parse().unwrap();
        let nodes: Vec<NodeName> = HostList::parse("n[4-6]").unwrap().into_iter().collect();
        let suits: Vec<Option<u8>> = map.seats.iter().map(|seat| seat.suits(&id, &nodes)).collect();
        assert_eq!(suits, [Some(2), None, Some(3), None]);
        assert_eq!(map.seats[1].suits(&id, &nodes[..1]), Some(1));
    }

    #[test]
    fn rows_and_halls_fill_aggregated_blocks() {
        let map = parse("block,row,hall\na,r1,h1\nb,r2,h1\nc,r1,h1\nd,r1,h1\ne,r3,h2\n").unwrap();
        assert_eq!(map.levels, [4, 8]);
        assert_eq!(
            names(&map),
            [
                "a",
                "c",
                "d",
                "h1-r1-free-1",
                "b",
                "h1-r2-free-1",
                "h1-r2-free-2",
                "h1-r2-free-3",
                "e",
                "h2-r3-free-1",
                "h2-r3-free-2",
                "h2-r3-free-3",
                "h2-spare-free-1",
                "h2-spare-free-2",
                "h2-spare-free-3",
                "h2-spare-free-4"
            ]
        );
        let one = parse("block,row\na,r1\nb,r1\nc,r1\n").unwrap();
        assert_eq!((one.seats.len(), one.levels.len()), (3, 0));
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        let mut told = String::new();
        for text in [
            "# nothing\n",
            "block,rack\n",
            "domain\n",
            "block,row\na\n",
            "block\na b\n",
            "block,domain\na,xyz\n",
            "block,domain\na,00000000-0000-0000-0000-000000000000\n",
            "block,clique\na,3\n",
            "block,nodes\na,n[1\n",
            "block\na\n\na\n",
            "block,nodes\na,n1\nb,\"n[1-2]\"\n",
            "block,row\na,\"r,1\"\n",
            "block,row\na,r\nb,r\nr2-free-1,r\nc,r2\n",
        ] {
            told.push_str(&format!("{}\n", parse(text).unwrap_err()));
        }
        insta::assert_snapshot!(told, @r#"
        no header line; it begins with the names of the columns: block,domain,clique,nodes,row,hall
        line 1: column "rack" is unknown or comes twice; known are ["block", "domain", "clique", "nodes", "row", "hall"]
        line 1: there is no column "block"
        line 2: 1 fields, the header has 2
        line 2: block: name "a b" holds ' ', which cannot be part of a name
        line 2: domain: "xyz" is not a UUID
        line 2: domain: all zero means that there is no multi-node NVLink
        line 2: clique: a clique says nothing without its domain
        line 2: nodes: brackets do not match in host list item "n[1"
        line 4: block a comes twice, first in line 2
        line 3: node n1 comes twice, first in line 2
        line 2: row: name "r,1" holds ',', which cannot be part of a name
        line 4: block: r2-free-1 is also the name of a place that is kept free
        "#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(block|domain|nodes|row|hall|,|\"|\n|n\\[1-3\\]|[a-c#]){0,40}") {
            if let Ok(map) = parse(&text) {
                let mut all = names(&map);
                all.sort_unstable();
                let len = all.len();
                all.dedup();
                prop_assert_eq!(all.len(), len);
            }
        }
    }
}
