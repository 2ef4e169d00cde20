//! What clients have made of a lab since its file was read, written down after each change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kswitch_config::{Cluster, Draft, Errors, Kept};

use crate::lab::kept;

/// The name of the file.
const FILE: &str = "wishes.json";

/// The lab's file as it was read last, and where is written down what is otherwise.
#[derive(Debug)]
pub(in crate::control) struct Wishes {
    path: PathBuf,
    file: Draft,
}

impl Wishes {
    /// The draft of a lab whose file was read: with what clients had made of it, if its switch was
    /// killed.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(in crate::control) fn resume(file: Draft) -> Result<(Self, Draft, Cluster), Errors> {
        let path = kept::directory(&file.settings().lab.name).join(FILE);
        let wishes = |file| Self { path: path.clone(), file };
        if let Some(kept) = read(&path) {
            let draft = kept.redo(file.clone());
            match draft.validate(Some(&kept.previous(&draft))) {
                Ok(cluster) => return Ok((wishes(file), draft, cluster)),
                Err(errors) => {
                    tracing::warn!("what was applied before is given up: {errors}");
                }
            }
        }
        let cluster = file.validate(None)?;
        Ok((wishes(file.clone()), file, cluster))
    }

    /// Takes note that the file was read again.
    pub(in crate::control) fn reread(&mut self, file: &Draft) {
        self.file = file.clone();
    }

    /// Writes down what the lab is now. Where that fails, a run after this one begins with what was
    /// written last, and the log says so.
    pub(in crate::control) fn write(&self, draft: &Draft, cluster: &Arc<Cluster>) {
        let kept = Kept::of(&self.file, draft, cluster);
        let new = self.path.with_extension("json-new");
        let written = serde_json::to_vec(&kept)
            .map_err(std::io::Error::from)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::warn!("this change would not outlive the switch: {error}");
        }
    }
}

fn read(path: &Path) -> Option<Kept> {
    let text = fs::read(path).ok()?;
    let kept = serde_json::from_slice(&text);
    kept.inspect_err(|error| tracing::warn!("{}: {error}", path.display())).ok()
}
