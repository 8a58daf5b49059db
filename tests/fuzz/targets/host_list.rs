//! A host list that is accepted is folded to a text that means the same.
#![no_main]

use fabric::HostList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(list) = HostList::parse(text) {
        let folded = list.to_string();
        let again = HostList::parse(&folded).expect("a folded list is a list");
        assert_eq!(list, again, "{text:?} became {folded:?}");
    }
});
