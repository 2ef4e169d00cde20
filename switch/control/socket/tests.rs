use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::control::flows::FlowFilter;
use crate::control::request::{Failure, Kind, Selector};

/// Answers `Get` with numbered objects, `Reload` with a line, and the rest without end.
struct Fake;

fn objects(item: usize) -> Response {
    Response::Objects { items: vec![item.into()] }
}

impl Control for Fake {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Get { .. } => Answer::Many(Box::new((0..3).map(objects))),
            Request::Reload => Response::Done { lines: vec!["reloaded".into()] }.into(),
            Request::Apply { manifests } => {
                let octets = manifests.iter().map(|manifest| manifest.text.len()).sum::<usize>();
                Response::Done { lines: vec![octets.to_string()] }.into()
            }
            _ => Answer::Many(Box::new((0..).map(objects))),
        }
    }
}

fn running() -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let server = bind(directory.path(), "lab").unwrap().serve(Arc::new(Fake)).unwrap();
    (directory, server)
}

#[test]
fn one_response_or_many() {
    let (directory, _server) = running();
    let done = ask_one(directory.path(), "lab", &Request::Reload).unwrap();
    assert_eq!(done, Response::Done { lines: vec!["reloaded".into()] });
    let get = Request::Get { kind: Kind::Pods, select: Selector::default() };
    let many: Result<Vec<_>, _> = ask(directory.path(), "lab", &get).unwrap().collect();
    assert_eq!(many.unwrap(), [objects(0), objects(1), objects(2)]);
}

#[test]
fn a_request_of_some_size_arrives_whole_and_a_larger_one_is_refused() {
    let (directory, _server) = running();
    let manifest = |octets| crate::control::request::Manifest {
        name: "big.yaml".into(),
        text: "x".repeat(octets),
    };
    let big = Request::Apply { manifests: vec![manifest(4_000_000)] };
    let done = ask_one(directory.path(), "lab", &big).unwrap();
    assert_eq!(done, Response::Done { lines: vec!["4000000".into()] });
    let too_big = Request::Apply { manifests: vec![manifest(MAX_REQUEST)] };
    let error = ask_one(directory.path(), "lab", &too_big).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);

    // A client that does not look is told by the switch.
    let mut stream = UnixStream::connect(path_of(directory.path(), "lab")).unwrap();
    let _ = stream.write_all(&vec![b'x'; MAX_REQUEST + 1]);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    assert!(answer.contains("longer than"), "{answer}");
}

#[test]
fn what_is_not_understood_is_refused_in_words() {
    let (directory, _server) = running();
    for wrong in ["", "{}", "no json", r#"{"ask":"fly"}"#, r#"{"ask":"get","kind":"moons"}"#] {
        let mut stream = UnixStream::connect(path_of(directory.path(), "lab")).unwrap();
        stream.write_all(format!("{wrong}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let Line::Last(Response::Failed { failure, .. }) = serde_json::from_str(&answer).unwrap()
        else {
            panic!("{answer}")
        };
        assert_eq!(failure, Failure::Unsupported, "{wrong}");
    }
}

#[test]
fn clients_that_do_not_read_or_write_hold_up_nobody() {
    let (directory, _server) = running();
    let silent = UnixStream::connect(path_of(directory.path(), "lab")).unwrap();
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            ask(directory.path(), "lab", &Request::ConntrackList { filter: FlowFilter::default() })
                .unwrap()
        })
        .collect();
    // Their queues are full by now.
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    for _ in 0..50 {
        ask_one(directory.path(), "lab", &Request::Reload).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop((silent, deaf));
}

#[test]
fn too_many_clients_are_told_and_room_is_made_again() {
    let (directory, server) = running();
    let path = path_of(directory.path(), "lab");
    let silent: Vec<_> = (0..MAX_CLIENTS).map(|_| UnixStream::connect(&path).unwrap()).collect();
    while server.client_count() < MAX_CLIENTS {
        thread::sleep(Duration::from_millis(1));
    }
    let Response::Failed { message, .. } =
        ask_one(directory.path(), "lab", &Request::Reload).unwrap()
    else {
        panic!("served beyond the limit")
    };
    assert!(message.contains("clients already"), "{message}");
    drop(silent);
    while server.client_count() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    ask_one(directory.path(), "lab", &Request::Reload).unwrap();
}

#[test]
fn the_end_cuts_off_and_removes() {
    let (directory, server) = running();
    let path = path_of(directory.path(), "lab");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut endless =
        ask(directory.path(), "lab", &Request::ConntrackList { filter: FlowFilter::default() })
            .unwrap();
    endless.next().unwrap().unwrap();
    drop(server);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing else is left");
    let last = endless.last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::UnexpectedEof, "cut off, not ended");
}

#[test]
fn a_lab_runs_once_and_what_a_killed_switch_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "lab");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as left behind");
    assert!(running_labs(directory.path()).unwrap().is_empty());

    let bound = bind(directory.path(), "lab").unwrap();
    assert_eq!(bind(directory.path(), "lab").unwrap_err().kind(), ErrorKind::AddrInUse);
    let other = bind(directory.path(), "other").unwrap();
    assert_eq!(running_labs(directory.path()).unwrap(), ["lab", "other"]);

    // A successor's socket is not ours to remove.
    fs::remove_file(&path).unwrap();
    let successor = bind(directory.path(), "lab").unwrap();
    drop(bound);
    assert!(path.exists());
    drop((successor, other));
    assert!(running_labs(directory.path()).unwrap().is_empty());
    assert!(running_labs(&directory.path().join("absent")).unwrap().is_empty());
}
