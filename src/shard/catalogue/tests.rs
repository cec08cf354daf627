use super::*;
use crate::model::DaId;
use crate::store::AdRow;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn change(da: &str, keys: Option<&[String]>) -> AdChange {
    let after = keys.map(|keys| AdRow { revision: 1, keys: keys.to_vec(), name: None });
    AdChange { da: da.to_owned(), before: None, after, backfill: Default::default() }
}

fn apply(catalogue: &Catalogue, changes: &[AdChange], replace: bool) {
    catalogue.put_in_force(catalogue.prepare(changes, replace).unwrap());
}

fn keys_of(catalogue: &Catalogue, da: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let joined = catalogue.join(da, &[], |key| keys.push(key.to_owned()));
    (!joined.is_unknown && !catalogue.is_empty()).then_some(keys)
}

fn candidate(da: &str, keys: &[&str]) -> Candidate<'static> {
    let keys = keys.iter().map(|key| CapKey::extra((*key).to_owned()).unwrap()).collect();
    Candidate { da: DaId::new(da.to_owned()).unwrap(), keys, catalogue: true }
}

#[derive(Debug, Clone)]
enum Step {
    Change(Vec<(u16, Option<Vec<String>>)>),
    Replace(Vec<(u16, Vec<String>)>),
}

fn keys() -> impl Strategy<Value = Vec<String>> {
    // Lengths on both sides of one byte.
    prop::collection::vec((0..40u8, 0..2u8), 0..=16).prop_map(|keys| {
        keys.into_iter().map(|(n, long)| format!("c:{n}{}", "x".repeat(usize::from(long) * 130))).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let ad = 0..300u16;
    prop_oneof![
        8 => prop::collection::vec((ad.clone(), prop::option::weighted(0.8, keys())), 0..80).prop_map(Step::Change),
        1 => prop::collection::vec((ad, keys()), 0..40).prop_map(Step::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn it_has_what_a_map_has(steps in prop::collection::vec(step(), 1..12)) {
        let catalogue = Catalogue::default();
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in steps {
            let replace = matches!(step, Step::Replace(_));
            let changes: BTreeMap<String, Option<Vec<String>>> = match step {
                Step::Change(changes) => changes.into_iter().map(|(ad, keys)| (ad.to_string(), keys)).collect(),
                Step::Replace(ads) => ads.into_iter().map(|(ad, keys)| (ad.to_string(), Some(keys))).collect(),
            };
            if replace {
                map.clear();
            }
            for (da, keys) in &changes {
                match keys {
                    Some(keys) => drop(map.insert(da.clone(), keys.clone())),
                    None => drop(map.remove(da)),
                }
            }
            let changes: Vec<AdChange> = changes.iter().map(|(da, keys)| change(da, keys.as_deref())).collect();
            apply(&catalogue, &changes, replace);
            prop_assert_eq!(catalogue.len(), map.len());
            for ad in 0..300u16 {
                let da = ad.to_string();
                prop_assert_eq!(keys_of(&catalogue, &da), map.get(&da).cloned(), "{}", da);
            }
        }
    }
}

#[test]
fn a_candidate_has_the_keys_it_names_and_then_those_of_the_catalogue() {
    let catalogue = Catalogue::default();
    let mut asked = candidate("1", &["c:1"]);
    assert_eq!(catalogue.join_candidate(&mut asked), Joined::default(), "an empty catalogue misses nothing");
    apply(&catalogue, &[change("1", Some(&["c:2".into(), "c:1".into(), "a:3".into()]))], false);
    assert_eq!(catalogue.join_candidate(&mut asked), Joined::default());
    assert_eq!(asked, candidate("1", &["c:1", "c:2", "a:3"]));
    let mut other = candidate("2", &[]);
    assert_eq!(catalogue.join_candidate(&mut other), Joined { is_unknown: true, keys_cut: 0 });
    assert_eq!(other, candidate("2", &[]));
}

#[test]
fn of_more_than_sixteen_keys_those_of_the_catalogue_are_cut() {
    let catalogue = Catalogue::default();
    let of_ad: Vec<String> = (0..16).map(|n| format!("c:{n}")).collect();
    apply(&catalogue, &[change("1", Some(&of_ad))], false);
    let mut asked = candidate("1", &["x:1", "c:3", "x:2"]);
    assert_eq!(catalogue.join_candidate(&mut asked).keys_cut, 2);
    assert_eq!(asked.keys.len(), 16);
    assert_eq!(asked.keys[3].as_str(), "c:0");
    assert_eq!(asked.keys[15].as_str(), "c:13");
}

#[test]
fn ten_million_ads_take_at_most_120_bytes_each() {
    // A thousandth of them, with ids and keys as ad servers have them, all put by changes.
    let catalogue = Catalogue::default();
    let ads: Vec<AdChange> = (0..200_000)
        .map(|n| {
            let keys =
                [format!("campaign:{}", 40_000_000 + n / 5), format!("advertiser:{}", n / 500), format!("flight:{n}")];
            change(&(1_000_000_000 + n).to_string(), Some(&keys))
        })
        .collect();
    for some in ads.chunks(10_000) {
        apply(&catalogue, some, false);
    }
    let each = catalogue.memory() / catalogue.len();
    assert!((40..=120).contains(&each), "{each} bytes");
}
