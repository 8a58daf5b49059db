//! A fabric identity that is accepted is printed in its one form.
#![no_main]

use fabric::FabricId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<FabricId>() {
        assert_eq!(id.to_string().parse(), Ok(id), "{text:?}");
    }
});
