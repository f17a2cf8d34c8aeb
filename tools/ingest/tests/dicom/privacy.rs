//! Nothing about a person, a visit or a device enters a store.

use std::fs;
use std::path::Path;

use crate::build::{Study, decimals, item, slice, text};

/// What must not be found, in fields of people, visits, institutions and devices.
const SECRETS: [&str; 14] = [
    "Mustermann",
    "ID-4711",
    "19610203",
    "20260102",
    "101112",
    "ACC-8899",
    "Klinikum Nord",
    "Dr^Meier",
    "STATION7",
    "Knie links",
    "1.2.3.4.20260102",
    "SER-112233",
    "Anmerkung",
    "Bericht",
];

#[test]
fn no_name_id_or_date_reaches_a_store() {
    let study = Study::new();
    for number in 0..4 {
        let mut file = slice(number);
        file.set(text(0x0008_0012, b"DA", "20260102")).set(text(0x0008_0020, b"DA", "20260102"));
        file.set(text(0x0008_0030, b"TM", "101112.5")).set(text(0x0008_0050, b"SH", "ACC-8899"));
        file.set(text(0x0008_0070, b"LO", "Klinikum Nord Apparatebau"));
        file.set(text(0x0008_0080, b"LO", "Klinikum Nord"));
        file.set(text(0x0008_0090, b"PN", "Dr^Meier")).set(text(0x0008_1010, b"SH", "STATION7"));
        file.set(text(0x0008_103e, b"LO", "Knie links Mustermann"));
        file.set(item(0x0008_1110, vec![text(0x0010_0010, b"PN", "Mustermann^Max")]));
        file.set(text(0x0010_0010, b"PN", "Mustermann^Max"));
        file.set(text(0x0010_0020, b"LO", "ID-4711"));
        file.set(text(0x0010_0030, b"DA", "19610203"));
        file.set(text(0x0010_4000, b"LT", "Anmerkung"));
        file.set(text(0x0018_1000, b"LO", "SER-112233"));
        // Codes that somebody has filled with something else.
        file.set(text(0x0018_1210, b"SH", "Mustermann^Max"));
        file.set(text(0x0028_1054, b"LO", "Bericht von Dr^Meier"));
        file.set(text(0x0020_000d, b"UI", "1.2.3.4.20260102"));
        file.set(text(0x0020_000e, b"UI", "1.2.3.4.20260102.1"));
        file.set(text(0x0020_0052, b"UI", "1.2.3.4.20260102.2"));
        file.set(text(0x0008_0018, b"UI", &format!("1.2.3.4.20260102.{number}")));
        file.set(text(0x0040_a730, b"UT", "Bericht"));
        file.set(decimals(0x0018_0060, &[120.0]));
        study.add(&format!("Mustermann_ID-4711_{number}.dcm"), &file);
    }
    study.ingest().unwrap();
    let mut files = Vec::new();
    collect(&study.root.path().join("store.zarr"), &mut files);
    assert!(files.len() > 5, "the store has files");
    let mut has_voltage = false;
    for (name, bytes) in files {
        for secret in SECRETS {
            let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!is_in(&bytes) && !is_in(name.as_bytes()), "{name} holds {secret}");
        }
        has_voltage |= bytes.windows(5).any(|w| w == b"\"kvp\"");
    }
    assert!(has_voltage, "the white list is kept");
}

fn collect(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}
