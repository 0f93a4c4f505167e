//! libvirt's XML: any bytes are read or refused, and what was read has a normal
//! form that is read back as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineman::{
    libvirt::{Domain, Flavour, OsType, Style, parse, write},
    limits,
};

fn normal(document: &[u8]) -> Result<(String, Domain), String> {
    let domain = parse(document).map_err(|faults| format!("{faults:?}"))?;
    Ok((write(&domain.devices, Style::Indented, Flavour::Stored), domain))
}

fuzz_target!(|document: &[u8]| {
    let Err(faults) = parse(document) else {
        let (first, domain) = normal(document).unwrap();
        // Without its domain a device is taken for one of a whole machine; and
        // references are longer than what they stand for.
        let is_whole = domain.os_type == OsType::Hvm && !first.is_empty();
        if is_whole && first.len() <= limits::DOMAIN_BYTES_MAX {
            let (second, _) = normal(first.as_bytes()).unwrap();
            // A mirror that was put in front moves the other consoles once.
            let (third, _) = normal(second.as_bytes()).unwrap();
            assert_eq!(third, second);
            assert_eq!(first.lines().count(), second.lines().count());
        }
        return;
    };
    assert!(!faults.is_empty());
    assert!(faults.iter().all(|fault| fault.line > 0 && fault.column > 0));
});
