//! The expected texts are what `scontrol show hostnames` and `scontrol show hostlist` of Slurm 26.05.5 print.

use super::*;
use proptest::prelude::*;

fn expanded(text: &str) -> String {
    let list = HostList::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    list.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn lists_expand_as_scontrol_show_hostnames() {
    for (text, names) in [
        ("n[01-03,7]", "n01 n02 n03 n7"),
        ("n[01-3]", "n01 n02 n03"),
        ("n[1-03]", "n1 n2 n3"),
        ("n[9-11]", "n9 n10 n11"),
        (" n1 , n2 ", "n1 n2"),
        ("n1 n2\tn3\nn4", "n1 n2 n3 n4"),
        ("n[1-2],,n3", "n1 n2 n3"),
        ("n1,n1", "n1 n1"),
        ("a[1-2]b[3-4]", "a1b3 a1b4 a2b3 a2b4"),
        ("a[1-2]b[3-4]c", "a1b3c a1b4c a2b3c a2b4c"),
        ("a[1-2]b[1-2]c[1-2]", "a1b1c1 a1b1c2 a2b1c1 a2b1c2 a1b2c1 a1b2c2 a2b2c1 a2b2c2"),
        ("n[1][2]", "n12"),
        ("[1-3]", "1 2 3"),
        ("n[1-]", "n1"),
        ("n[18446744073709551615]", "n18446744073709551615"),
        ("", ""),
        (",", ""),
    ] {
        assert_eq!(expanded(text), names, "{text:?}");
    }
}

#[test]
fn lists_that_scontrol_refuses_are_refused() {
    for text in [
        "n[3-1]",
        "n[1-65537]",
        "n[]",
        "n[1",
        "n[-3]",
        "n[1-3-5]",
        "n[1--3]",
        "n[1,,2]",
        "n[a]",
        "n[1;2]",
        "n[1-2]x[3",
        "a[1-40000,50000-90000]b[1-2]",
        "a[1-65536]b[1-65536]",
    ] {
        assert!(HostList::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(HostList::parse("n[1-65536]").unwrap().len(), 65_536);
}

#[test]
fn lists_that_slurm_silently_turns_into_other_names_are_refused() {
    for text in
        ["n[1, 3]", "n[+1]", "n1]", "n[[1]]", "n[99999999999999999999]", "n99999999999999999999", "a]b[1-2]"]
    {
        assert!(HostList::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn lists_fold_as_scontrol_show_hostlist() {
    for (names, folded) in [
        ("n1,n1", "n[1,1]"),
        ("n1,n2,n1", "n[1-2,1]"),
        ("n9,n010", "n[9,010]"),
        ("n9,n10", "n[9-10]"),
        ("n09,n10,n100", "n[09-10,100]"),
        ("n8,n09", "n[8,09]"),
        ("a1b,a2b", "a1b,a2b"),
        ("n1,x,n2", "n1,x,n2"),
        ("n1,m2,n3", "n1,m2,n3"),
        ("n1,n01", "n[1,01]"),
        ("n0,n00", "n[0,00]"),
        ("n3,n2,n1", "n[3,2,1]"),
        ("n1,n3,m1,m2,n4", "n[1,3],m[1-2],n4"),
        ("n001,n02,n3", "n[001,02,3]"),
        ("n098,n99,n100", "n[098,99-100]"),
        ("n99,n0100", "n[99,0100]"),
        ("n98,n99,n100", "n[98-100]"),
        ("1,2,3", "[1-3]"),
        ("a1,a2,b,b", "a[1-2],b,b"),
        ("n01-1,n1-2", "n01-1,n1-2"),
        ("u.32766,u.32767", "u.[32766-32767]"),
    ] {
        assert_eq!(HostList::parse(names).unwrap().to_string(), folded, "{names}");
    }
}

#[test]
fn a_fold_never_makes_a_range_that_slurm_refuses_to_read() {
    let list: HostList = (1..=70_000).map(|n| NodeName::new(format!("n{n}")).unwrap()).collect();
    assert_eq!(list.to_string(), "n[1-65536,65537-70000]");
    assert_eq!(HostList::parse(&list.to_string()).unwrap(), list);
}

#[test]
fn hostile_lists_are_refused_before_they_cost_memory() {
    let long = "9".repeat(1 << 20);
    for text in [
        format!("{long}[1-65536]"),
        format!("n[0{long}]"),
        format!("{}[1-2]", "n[1-2]".repeat(100_000)),
        "[".repeat(1 << 20),
        "n[1-65536]".to_owned() + &",n[1-65536]".repeat(10_000),
    ] {
        let error = HostList::parse(&text).unwrap_err();
        assert!(error.to_string().len() < 600, "{error}");
    }
}

#[test]
fn errors_name_the_item_and_the_range() {
    let text = |list: &str| HostList::parse(list).unwrap_err().to_string();
    assert_eq!(text("m1,n[3-1]"), "range \"3-1\" runs backwards in host list item \"n[3-1]\"");
    assert_eq!(
        text("n[1-99999]"),
        "more than 65536 hosts in range \"1-99999\" of host list item \"n[1-99999]\""
    );
    assert_eq!(text("n[1-4,x]"), "invalid range \"x\" in host list item \"n[1-4,x]\"");
    assert_eq!(text("n[01-04"), "brackets do not match in host list item \"n[01-04\"");
    assert_eq!(text("a/b"), "host list item \"a/b\" does not give node names");
}

fn name() -> impl Strategy<Value = NodeName> {
    "(n|m-|a1b|rack[0-9]-)?(0{0,3}[0-9]{0,4})(x)?".prop_filter_map("empty", |text| NodeName::new(text).ok())
}

proptest! {
    #[test]
    fn what_is_folded_expands_to_the_same_names(names in prop::collection::vec(name(), 0..40)) {
        let list: HostList = names.into_iter().collect();
        prop_assert_eq!(HostList::parse(&list.to_string()).unwrap(), list);
    }

    #[test]
    fn runs_of_numbers_fold_and_expand(start in 0u32..2000, len in 1u32..300, width in 0usize..6) {
        let list: HostList = (start..start + len).map(|n| NodeName::new(format!("n{n:0width$}")).unwrap()).collect();
        let text = list.to_string();
        prop_assert!(text.matches('-').count() <= 1, "{}", text);
        prop_assert_eq!(HostList::parse(&text).unwrap(), list);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in r"[n0-9,\[\]\- x]{0,40}") {
        if let Ok(list) = HostList::parse(&text) {
            prop_assert_eq!(HostList::parse(&list.to_string()).unwrap(), list);
        }
    }
}
