//! The text of a case file.

pub fn enter(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else { return };
    match kswitch::cases::read::read("case.yaml", text) {
        Ok(case) => drop(case.heading()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
