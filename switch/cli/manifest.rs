//! Files with Kubernetes objects, read on the client's side.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::control::request::Manifest;
use crate::control::socket::MAX_REQUEST;

/// The name that means standard input.
const STDIN: &str = "-";

/// Reads files; of a directory those that end in `.yaml`, `.yml` or `.json`, in order of name.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = files_of(path).map_err(|error| failed(path, &error))?;
            if files.is_empty() {
                return Err(Error::new(format_args!("{}: no manifests in it", path.display())));
            }
            for file in files {
                manifests.push(read(&file)?);
            }
        } else {
            manifests.push(read(path)?);
        }
    }
    Ok(manifests)
}

fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_manifest = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        path.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
    };
    let paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut files: Vec<_> = paths.collect::<io::Result<Vec<_>>>()?;
    files.retain(is_manifest);
    files.sort_unstable();
    Ok(files)
}

fn read(path: &Path) -> Result<Manifest, Error> {
    let mut text = String::new();
    // One octet beyond the limit tells a file that is too large from one that just fits.
    let limit = MAX_REQUEST as u64 + 1;
    let read = if path == Path::new(STDIN) {
        io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    match read {
        Err(error) => Err(failed(path, &error)),
        Ok(octets) if octets > MAX_REQUEST => {
            let message = format!("{}: larger than {MAX_REQUEST} octets", path.display());
            Err(Error::new(message))
        }
        Ok(_) => Ok(Manifest { name: path.display().to_string(), text }),
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::new(format_args!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "notes.txt"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let texts: Vec<_> = read_all(&[directory.path().to_owned()])
            .unwrap()
            .into_iter()
            .map(|manifest| manifest.text)
            .collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "c.json"]);
        let absent = directory.path().join("absent.yaml");
        let error = read_all(&[absent]).unwrap_err().to_string();
        assert!(error.contains("absent.yaml: "), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(read_all(&[empty.path().to_owned()]).is_err());
    }
}
