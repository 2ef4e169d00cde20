//! A manifest, given to a lab that runs.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use kswitch_config::{Cluster, Compiler, Draft, Observed};
use kswitch_tables::Generation;

static BEFORE: LazyLock<(Draft, Cluster)> = LazyLock::new(|| {
    let draft = Draft::read_text("lab.toml", super::LAB, Path::new("/nonexistent"));
    let cluster = draft.validate(None).expect("the lab is valid");
    (draft, cluster)
});

pub fn enter(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else { return };
    let (draft, cluster) = &*BEFORE;
    let mut draft = draft.clone();
    if let Err(errors) = draft.apply_text("manifest.yaml", text) {
        assert!(!errors.to_string().is_empty());
        return;
    }
    match draft.validate(Some(cluster)) {
        Ok(cluster) => {
            let compiled =
                Compiler::new(1).compile(&Arc::new(cluster), &Observed::default(), Generation(2));
            drop(compiled);
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
