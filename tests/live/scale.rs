//! A lab of five hundred pods.

use std::fmt::Write;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{Lab, fetch, fresh_name};

pub(crate) const TESTS: &[Test] =
    &[("fifty nodes and five hundred pods all answer", &[], five_hundred)];

fn five_hundred() -> Result<(), Failed> {
    let name = fresh_name();
    let mut text = format!("[lab]\nname = \"{name}\"\n");
    for node in 0..50 {
        write!(text, "[[node]]\nname = \"n{node}\"\n")?;
        for pod in 0..10 {
            write!(
                text,
                "[[pod]]\nmetadata = {{ name = \"p{node}-{pod}\" }}\nspec.nodeName = \"n{node}\"\n"
            )?;
        }
    }
    let mut lab = Lab::start(&name, &text)?;
    // how long it took is said, not judged: the machine may be busy
    eprintln!("{}", lab.ready);
    let pods = lab.own_pods()?;
    assert_eq!(pods.len(), 500);
    let targets: Vec<(String, String)> = pods
        .iter()
        .filter_map(|pod| {
            let name = pod["metadata"]["name"].as_str()?.to_owned();
            Some((name, format!("{}:8080", pod["status"]["podIP"].as_str()?)))
        })
        .collect();
    assert_eq!(targets.len(), 500);
    lab.inside("default.p0-0", || -> Result<(), Failed> {
        for (name, target) in &targets {
            assert_eq!(fetch(target, "/hostname")?, *name);
        }
        Ok(())
    })??;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(lab.leftovers(), [] as [&str; 0]);
    Ok(())
}
