//! Rows and halls as aggregated blocks.
#![forbid(unsafe_code)]

use fabric::{BlockName, HostList};

use super::{Seat, SiteMap};

/// Members by the name of their group, in the order of the first member.
type Groups<T> = Vec<(String, T)>;

/// Brings the seats of each row and hall together, in the order of their first lines, and fills rows and halls up to a power of
/// two: Slurm forms aggregated blocks by position, of twice, four times, ... the base block.
pub(super) fn arranged(seats: Vec<Seat>) -> SiteMap {
    let mut halls: Groups<Groups<Vec<Seat>>> = Vec::new();
    for seat in seats {
        let hall = group(&mut halls, &seat.hall);
        group(hall, &seat.row).push(seat);
    }
    let rows: usize = halls.iter().map(|(_, rows)| rows.len()).sum();
    let row_len = halls.iter().flat_map(|(_, rows)| rows).map(|(_, seats)| seats.len()).max();
    let hall_len = halls.iter().map(|(_, rows)| rows.len()).max();
    let row_len = if rows > 1 { row_len.unwrap_or(1).next_power_of_two() } else { 1 };
    let hall_len = if halls.len() > 1 { hall_len.unwrap_or(1).next_power_of_two() } else { 1 };
    let mut seats = Vec::new();
    for (hall, rows) in halls {
        let names: Vec<String> = rows.iter().map(|(row, _)| joined(&hall, row)).collect();
        let empty = hall_len.saturating_sub(rows.len());
        for ((_, row), name) in rows.into_iter().zip(names) {
            let free = row_len.saturating_sub(row.len());
            seats.extend(row);
            seats.extend((1..=free).filter_map(|number| kept_free(&name, number)));
        }
        let spare = joined(&hall, "spare");
        seats.extend((1..=empty * row_len).filter_map(|number| kept_free(&spare, number)));
    }
    let levels = [row_len, row_len * hall_len];
    let mut levels: Vec<u32> =
        levels.iter().filter(|level| **level > 1).filter_map(|level| u32::try_from(*level).ok()).collect();
    levels.dedup();
    SiteMap { seats, levels }
}

/// The members of the group of that name, which comes last when it is new.
fn group<'a, T: Default>(groups: &'a mut Groups<T>, name: &str) -> &'a mut T {
    let at = match groups.iter().position(|(known, _)| known == name) {
        Some(at) => at,
        None => {
            groups.push((name.to_owned(), T::default()));
            groups.len() - 1
        }
    };
    #[expect(clippy::indexing_slicing, reason = "found, or pushed just now")]
    &mut groups[at].1
}

fn joined(hall: &str, row: &str) -> String {
    [hall, row].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("-")
}

/// A place without trays; `None` only for a name longer than names can be.
fn kept_free(place: &str, number: usize) -> Option<Seat> {
    let name = BlockName::new(joined(place, &format!("free-{number}"))).ok()?;
    let (row, hall) = (String::new(), String::new());
    Some(Seat { name, domain: None, partition: None, nodes: HostList::default(), row, hall })
}
