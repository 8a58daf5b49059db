//! A site map: no two blocks of it have the same name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(map) = topology_gen::site_map::parse(text) {
        let mut names: Vec<&str> = map.seats.iter().map(|seat| seat.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
});
