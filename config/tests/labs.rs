//! The labs that come with kswitch are read without a complaint, but for kinds that are not carried.

use std::fs;
use std::path::Path;

use kswitch_config::Draft;

#[test]
fn the_labs_that_come_with_it_are_sound() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
    let mut labs = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        labs += 1;
        let draft = Draft::read(&path);
        let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<_> = cluster.warnings.iter().map(ToString::to_string).collect();
        let told = |warning: &String| !warning.starts_with("these have no effect here");
        assert!(!warnings.iter().any(told), "{}: {warnings:#?}", path.display());
        assert!(cluster.pending.is_empty(), "{}: {:?}", path.display(), cluster.pending);
    }
    assert!(labs >= 3, "only {labs} labs were found");
}
